"""Reads the outbox: what waits, what failed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, inspect, select

from fourlane.db.engine import Database
from fourlane.db.models import JobOutbox

__all__ = ["Summary", "is_there", "summary"]


@dataclass(frozen=True)
class Summary:
    """What is in the outbox; ``oldest_ms`` is when the oldest pending row was written."""

    pending: int
    oldest_ms: int | None
    failed: int


def summary(database: Database) -> Summary:
    """Count what waits and what failed. Raises DatabaseUnavailable."""
    waits = (JobOutbox.relayed_at.is_(None), JobOutbox.failed_at.is_(None))
    with database.begin() as session:
        pending, oldest = session.execute(select(func.count(), func.min(JobOutbox.created_at)).where(*waits)).one()
        failed = session.scalar(select(func.count()).where(JobOutbox.failed_at.is_not(None)))
    return Summary(pending, None if oldest is None else int(oldest.timestamp() * 1000), failed or 0)


def is_there(database: Database) -> bool:
    """Whether the table is: not every database has been migrated. Raises DatabaseUnavailable."""
    with database.begin() as session:
        return inspect(session.connection()).has_table(JobOutbox.__tablename__, schema=JobOutbox.__table__.schema)
