"""Reads the outbox: what waits, what failed, and whose it is."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import func, inspect, or_, select
from sqlalchemy.orm import Session

from fourlane.db.engine import Database
from fourlane.db.models import JobOutbox, OutboxQuota
from fourlane.outbox.held import NEAR_SECONDS, near_since
from fourlane.outbox.turns import PENDING, SIZE
from fourlane.outbox.written import moment_ms

__all__ = ["Fill", "Late", "Summary", "fullest", "is_there", "late_services", "reasons", "summary"]

_NEWLY: Final = timedelta(minutes=30)
_LOOKED_AT: Final = 1_000
_OF_ALL_OTHERS: Final = uuid.UUID(int=0)


@dataclass(frozen=True)
class Summary:
    """What is in the outbox.

    Parameters:
      pending: rows that a relay is to move now.
      oldest_ms: since when the oldest of them is to be: it was written, or came near.
      held: rows that are not due for long (held.py).
      newly_failed: of those that failed, within the last 30 minutes.
      last_error: why the last of them did.
    """

    pending: int
    oldest_ms: int | None
    failed: int
    newly_failed: int = 0
    last_error: str | None = None
    held: int = 0

    @property
    def oldest_age_ms(self) -> int | None:
        return None if self.oldest_ms is None else max(0, int(time.time() * 1000) - self.oldest_ms)


@dataclass(frozen=True)
class Late:
    """A service whose rows wait too long."""

    service: str
    waiting: int


@dataclass(frozen=True)
class Fill:
    """What an organization has waiting, and may have."""

    organization_id: uuid.UUID
    rows: int
    bytes: int
    most_rows: int
    most_bytes: int

    @property
    def share(self) -> float:
        return max(self.rows / max(self.most_rows, 1), self.bytes / max(self.most_bytes, 1))


def summary(database: Database) -> Summary:
    """Count what waits and what failed. Raises DatabaseUnavailable."""
    failed_at, held_until = JobOutbox.failed_at, JobOutbox.held_until
    newly = datetime.now(UTC) - _NEWLY
    with database.begin() as session:
        pending = session.scalar(select(func.count()).select_from(JobOutbox).where(*PENDING)) or 0
        failed = session.scalar(select(func.count()).where(failed_at.is_not(None))) or 0
        return Summary(
            pending,
            _oldest_ms(session),
            failed,
            (session.scalar(select(func.count()).where(failed_at > newly)) or 0) if failed else 0,
            session.scalar(select(JobOutbox.error).where(failed_at.is_not(None)).order_by(failed_at.desc()).limit(1)),
            session.scalar(select(func.count()).where(held_until.is_not(None))) or 0,
        )


def _oldest_ms(session: Session) -> int | None:
    """Not by position: a row that was held has a place far in front."""
    first = select(func.min(near_since(JobOutbox.created_at, JobOutbox.run_at))).where(*PENDING)
    with suppress(ValueError):  # what no calendar has; a relay marks that row
        return moment_ms(session.scalar(first), "created_at")
    return None


def late_services(database: Database, seconds: float) -> list[Late]:
    """Services some of whose rows wait for longer, the fullest first. Raises DatabaseUnavailable."""
    until = datetime.now(UTC) - timedelta(seconds=seconds)
    number = func.count().label("number")
    near = or_(JobOutbox.run_at.is_(None), JobOutbox.run_at < until + timedelta(seconds=NEAR_SECONDS))
    query = select(JobOutbox.service, number).where(*PENDING, JobOutbox.created_at < until, near)
    with database.begin() as session:
        found = session.execute(query.group_by(JobOutbox.service).order_by(number.desc())).all()
    return [Late(row.service, row.number) for row in found]


def reasons(database: Database, most: int = 3) -> list[tuple[str, int]]:
    """Why rows failed of late, and how many for each reason. Raises DatabaseUnavailable."""
    failed_at = JobOutbox.failed_at
    last = select(JobOutbox.error).where(failed_at.is_not(None)).order_by(failed_at.desc()).limit(_LOOKED_AT).subquery()
    number = func.count().label("number")
    query = select(last.c.error, number).group_by(last.c.error).order_by(number.desc()).limit(most)
    with database.begin() as session:
        return [(row.error or "", row.number) for row in session.execute(query)]


def fullest(database: Database, most: int = 5) -> list[Fill]:
    """Organizations with the most waiting as quotas count it, of those that have one. Raises DatabaseUnavailable."""
    owner, number = JobOutbox.organization_id, func.count().label("number")
    waits = or_(JobOutbox.relayed_at.is_(None), JobOutbox.run_at > datetime.now(UTC))
    query = select(owner, number, func.sum(SIZE).label("size"))
    query = query.where(owner.is_not(None), JobOutbox.failed_at.is_(None), waits).group_by(owner)
    with database.begin() as session:
        found = session.execute(query.order_by(number.desc()).limit(_LOOKED_AT)).all()
        quotas = {one.organization_id: one for one in session.scalars(select(OutboxQuota))}
    fills = [
        Fill(row.organization_id, row.number, int(row.size), quota.waiting_rows, quota.waiting_bytes)
        for row in found
        if (quota := quotas.get(row.organization_id, quotas.get(_OF_ALL_OTHERS))) is not None
    ]
    return sorted(fills, key=lambda fill: -fill.share)[:most]


def is_there(database: Database) -> bool:
    """Whether the table is: not every database has been migrated. Raises DatabaseUnavailable."""
    with database.begin() as session:
        return inspect(session.connection()).has_table(JobOutbox.__tablename__, schema=JobOutbox.__table__.schema)
