"""Pending deliveries without a job: it was cancelled, purged, lost, or is dead, so nothing moves them any more.

A delivery's job lies in the outbox, then in Redis. The outbox is asked first: what is no longer there was in Redis
before, and a job that ends writes its row first.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import select, tuple_, update

from fourlane import job as jobs
from fourlane.db.models import JobOutbox, WebhookDelivery
from fourlane.db.statements import changed_by
from fourlane.queues.over import over
from fourlane.tasks.webhooks.policy import SERVICE, TIER

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from fourlane.db.engine import Database
    from fourlane.queues.store import Store

__all__ = ["PATIENCE", "count", "fail", "jobless"]

PATIENCE: Final = timedelta(hours=1)
_REASON: Final = "its job is gone: resend it"
_CHUNK: Final = 500
_MOST_LOOKED_AT: Final = 100_000
_MOST_FAILED: Final = 10_000


def jobless(session: Session, store: Store, job_ids: Sequence[str | None]) -> set[str | None]:
    """Those of these jobs that will not come, where their deliveries are pending. Raises RedisUnavailable."""
    stored = {job_id: jobs.id_of_message(job_id, TIER) for job_id in job_ids if job_id}
    waiting = _in_outbox(session, list(stored))
    gone = over(store, SERVICE, [stored[one] for one in stored if one not in waiting])
    return {one for one in job_ids if not one or stored[one] in gone}


def fail(database: Database, store: Store, *, before: datetime) -> int:
    """Mark as failed what has had no job, and no attempt, since a moment: some 10,000 at most. Returns how many."""
    number = 0
    for _, gone in _looked_through(database, store, before):
        with database.begin() as session:
            lost = update(WebhookDelivery).where(
                WebhookDelivery.status == "pending",
                WebhookDelivery.updated_at < before,  # not one that was sent again since
                WebhookDelivery.id.in_(gone),
            )
            number += changed_by(session.execute(lost.values(status="failed", error=_REASON)))
        if number >= _MOST_FAILED:
            break
    return number


def count(database: Database, store: Store, *, before: datetime) -> tuple[int, int]:
    """How many `fail` would find, and how many pending ones were looked at."""
    looked_at = number = 0
    for size, gone in _looked_through(database, store, before):
        looked_at, number = looked_at + size, number + len(gone)
    return number, looked_at


def _in_outbox(session: Session, job_ids: Sequence[str]) -> set[str]:
    """What a relay will move. One that failed waits for an operator, and may never come."""
    found: set[str] = set()
    for first in range(0, len(job_ids), _CHUNK):
        ids = [uuid.UUID(one) for one in job_ids[first : first + _CHUNK]]
        waits = (JobOutbox.relayed_at.is_(None), JobOutbox.failed_at.is_(None))
        found |= {str(id) for id in session.scalars(select(JobOutbox.id).where(JobOutbox.id.in_(ids), *waits))}
    return found


def _looked_through(database: Database, store: Store, before: datetime) -> Iterator[tuple[int, list[uuid.UUID]]]:
    """Pending deliveries in short transactions, the oldest first: of each chunk its size, and those without a job."""
    last: tuple[datetime, uuid.UUID] | None = None
    place = (WebhookDelivery.created_at, WebhookDelivery.id)
    query = (
        select(*place, WebhookDelivery.job_id)
        .where(WebhookDelivery.status == "pending", WebhookDelivery.updated_at < before)
        .order_by(*place)
        .limit(_CHUNK)
    )
    for _ in range(_MOST_LOOKED_AT // _CHUNK):
        with database.begin() as session:
            some = session.execute(query if last is None else query.where(tuple_(*place) > tuple_(*last))).all()
            gone = jobless(session, store, [job_id for _, _, job_id in some])
        if not some:
            return
        yield len(some), [id for _, id, job_id in some if job_id in gone]
        last = some[-1][0], some[-1][1]
