"""Runs of the reconciliation as the database has them: one begins or goes on, page by page, and ends."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fourlane.db.engine import Database
from fourlane.db.models import ReconciliationFinding, ReconciliationRun, ReconciliationSeen
from fourlane.db.statements import changed_by
from fourlane.providers.payments import Period
from fourlane.tasks.billing.errors import RunTaken

__all__ = ["Progress", "advance", "exists", "fail", "finish", "latest", "mark", "open_run", "run_of"]

_TRIES: Final = 5
_RESUMABLE: Final = timedelta(days=1)  # later, the beginning of the run is no longer what the provider says


@dataclass(slots=True)
class Progress:
    """A run, and how far it got."""

    id: uuid.UUID
    pages: int
    cursor: dict[str, Any]
    started_at: datetime
    resumed: bool


def open_run(database: Database, provider: str, parts: Sequence[str], period: Period, *, now: datetime) -> Progress:
    """Go on with the run of this period that did not end, or begin one.

    Parameters:
      parts: what the provider's books have by the settings of today; a run that is in another is not gone on with.
    """
    for _ in range(_TRIES):
        try:
            return _take_up(database, provider, parts, period, now) or _begin(database, provider, period, now)
        except IntegrityError:  # another process began one in this moment
            pass
    raise RunTaken("others begin this reconciliation again and again; wait until they are done")


def _take_up(database: Database, provider: str, parts: Sequence[str], period: Period, now: datetime) -> Progress | None:
    same = and_(
        ReconciliationRun.provider == provider,
        ReconciliationRun.period_start == period.start,
        ReconciliationRun.period_end == period.end,
        ReconciliationRun.status.in_(("running", "failed")),
        ReconciliationRun.finished_at.is_(None),
    )
    with database.begin() as session:
        left = session.scalars(select(ReconciliationRun).where(same).order_by(ReconciliationRun.started_at)).all()
        for run in left:
            if run.started_at > now - _RESUMABLE and run.cursor.get("part", parts[0]) in parts:
                run.status = "running"
                return Progress(run.id, run.pages, dict(run.cursor), run.started_at, resumed=True)
            run.status, run.finished_at = "failed", now
            session.connection().execute(delete(ReconciliationSeen).where(ReconciliationSeen.run_id == run.id))
    return None


def _begin(database: Database, provider: str, period: Period, now: datetime) -> Progress:
    with database.begin() as session:
        made = ReconciliationRun(
            provider=provider,
            period_start=period.start,
            period_end=period.end,
            status="running",
            cursor={},
            started_at=now,
        )
        session.add(made)
        session.flush()
        return Progress(made.id, 0, {}, now, resumed=False)


def advance(session: Session, run: Progress, cursor: dict[str, Any], *, compared: int) -> None:
    """Put the cursor forward, in the transaction that stores what the page brought.

    Raises RunTaken when another process has put it forward meanwhile.
    """
    done = session.execute(
        update(ReconciliationRun)
        .where(
            ReconciliationRun.id == run.id,
            ReconciliationRun.pages == run.pages,
            ReconciliationRun.status == "running",
        )
        .values(pages=run.pages + 1, cursor=cursor, compared=ReconciliationRun.compared + compared, error=None)
    )
    if changed_by(done) != 1:
        raise RunTaken("another process goes on with this reconciliation; wait until it is done")


def mark(run: Progress, cursor: dict[str, Any]) -> None:
    """After the commit."""
    run.pages += 1
    run.cursor = cursor


def fail(database: Database, run: Progress, error: str, *, final: bool) -> None:
    """Note why a run stopped; it can be taken up again."""
    status = "failed" if final else "running"
    with database.begin() as session:
        session.execute(
            update(ReconciliationRun).where(ReconciliationRun.id == run.id).values(error=error, status=status)
        )


def finish(session: Session, run: Progress, provider: str, period: Period, *, now: datetime) -> None:
    """End a run: what it no longer found in its period is resolved, and what it remembered is dropped."""
    _resolve(session, run, provider, period, now)
    found = session.scalar(
        select(func.count()).select_from(ReconciliationFinding).where(ReconciliationFinding.last_run_id == run.id)
    )
    # Also what runs remember that stopped, and that nobody took up in time.
    forgotten = select(ReconciliationRun.id).where(ReconciliationRun.started_at < now - _RESUMABLE)
    seen_by = ReconciliationSeen.run_id
    session.connection().execute(delete(ReconciliationSeen).where(or_(seen_by == run.id, seen_by.in_(forgotten))))
    session.execute(
        update(ReconciliationRun)
        .where(ReconciliationRun.id == run.id)
        .values(status="done", found=found, finished_at=now, cursor={"phase": "done"})
    )


def _resolve(session: Session, run: Progress, provider: str, period: Period, now: datetime) -> None:
    """What other runs found and this one did not meet again."""
    # Of another run that was under way at the same time (a month beside one of its days) nothing is known here.
    before = select(ReconciliationRun.id).where(
        or_(
            ReconciliationRun.finished_at < run.started_at,
            and_(
                ReconciliationRun.finished_at.is_(None),
                ReconciliationRun.started_at < run.started_at - _RESUMABLE,
            ),
        )
    )
    # Past the ORM, which would first fetch what is changed.
    session.connection().execute(
        update(ReconciliationFinding)
        .where(
            ReconciliationFinding.provider == provider,
            or_(
                and_(
                    ReconciliationFinding.occurred_at >= period.start,
                    ReconciliationFinding.occurred_at < period.end,
                ),
                # Every run looks at all subscriptions.
                ReconciliationFinding.details["object"].as_string() == "subscription",
            ),
            ReconciliationFinding.resolved_at.is_(None),
            or_(ReconciliationFinding.last_run_id.is_(None), ReconciliationFinding.last_run_id.in_(before)),
        )
        .values(resolved_at=now)
    )


def run_of(database: Database, run_id: uuid.UUID) -> ReconciliationRun:
    """The run's row."""
    with database.begin() as session:
        run = session.get_one(ReconciliationRun, run_id)
        session.expunge(run)
        return run


def latest(database: Database, provider: str | None, limit: int) -> Sequence[ReconciliationRun]:
    """The latest runs."""
    query = select(ReconciliationRun).order_by(ReconciliationRun.started_at.desc()).limit(limit)
    if provider is not None:
        query = query.where(ReconciliationRun.provider == provider)
    with database.begin() as session:
        found = session.scalars(query).all()
        session.expunge_all()
    return found


def exists(database: Database, run_id: uuid.UUID) -> bool:
    """Whether there is such a run."""
    with database.begin() as session:
        return session.get(ReconciliationRun, run_id) is not None
