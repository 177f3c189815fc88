"""Delivers to endpoints: a delivery is a row, and the log of what became of it; its job only moves it.

A job that comes twice (a crash before it was settled) finds the row delivered and does nothing; a receiver that got a
delivery twice all the same (its answer was lost) can tell by ``webhook-id``.

What holds a delivery back costs nothing and spends no attempt, for its job waits in lines (lines.py): behind an older
one of the same key where the endpoint is ``ordered``, for a place of the endpoint's or the organization's, or until the
endpoint's line opens again (standing.py).
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import dramatiq.errors

from fourlane.errors import Reject
from fourlane.queues.guards import Lines
from fourlane.tasks.context import current_job
from fourlane.tasks.task import task
from fourlane.tasks.webhooks import logbook
from fourlane.tasks.webhooks.attempt import DeliveryFailed, raise_for, send
from fourlane.tasks.webhooks.lines import endpoint_line, lines_to_endpoint
from fourlane.tasks.webhooks.loading import client, ready
from fourlane.tasks.webhooks.policy import BACKOFF, JOB_MS, MAX_RETRIES, SERVICE, TIER, Policy, policy
from fourlane.tasks.webhooks.setup import Setup, setup
from fourlane.tasks.webhooks.signing import signed

if TYPE_CHECKING:
    from fourlane.db.engine import Database

__all__ = ["deliver_to_endpoint", "purge", "purge_older"]


@task(
    name="fourlane.webhooks.deliver_to_endpoint",
    service=SERVICE,
    tier=TIER,
    max_retries=MAX_RETRIES,
    backoff=BACKOFF,
    timeout_ms=JOB_MS,
    share=0.5,  # it waits on others' servers
    lines=lines_to_endpoint,
)
async def deliver_to_endpoint(
    delivery_id: str, *, endpoint_id: str = "", places: int | None = None, order: str = ""
) -> None:
    """Make one attempt at a delivery, and log it.

    Parameters:
      endpoint_id, places, order: what its lines are made of: the endpoint, the deliveries that it takes at once, and
        the key within which they keep their order.

    Raises:
      Reject: it can never succeed: the endpoint is disabled or gone, or answered so.
      dramatiq.errors.Retry, DeliveryFailed: it may succeed later.
    """
    await ready(client, policy, setup)
    here, by = setup(), policy()
    todo = await here.threads.run(_load, here.database, delivery_id)
    if todo is None:
        return
    entry = logbook.Entry()
    try:
        await _attempt(todo, entry, by)
    except (Reject, DeliveryFailed, dramatiq.errors.Retry) as error:
        entry.error = error
        # Without a job there is nobody to come again; attempts count from 1.
        has_another = current_job() is not None and todo.attempts + 1 <= MAX_RETRIES
        entry.is_final = isinstance(error, Reject) or not has_another
    await here.threads.run(_conclude, here, todo, entry, slow_ms=by.slow_seconds * 1000, made_for=places)
    if entry.error is not None:
        raise entry.error


class _Todo(NamedTuple):
    """A delivery, as it stands at the beginning of an attempt."""

    id: uuid.UUID
    endpoint_id: str
    attempts: int
    webhook_id: str
    url: str
    payload: Any
    secrets: list[str]


def _load(database: Database, delivery_id: str) -> _Todo | None:
    """None: there is nothing to do. Raises Reject."""
    from fourlane.db.models import WebhookDelivery, WebhookEndpoint
    from fourlane.tasks.webhooks import rows

    with database.begin() as session:
        delivery = session.get(WebhookDelivery, uuid.UUID(delivery_id))
        if delivery is None:
            raise Reject("the delivery is gone, with its endpoint or by age")
        endpoint = session.get_one(WebhookEndpoint, delivery.endpoint_id)
        if delivery.status in ("delivered", "skipped"):
            return None  # failed ones are tried again: their job was replayed
        if endpoint.disabled_at is not None:
            logbook.skip(delivery, endpoint)
            return None
        return _Todo(
            id=delivery.id,
            endpoint_id=endpoint.id.hex,
            attempts=delivery.attempts,
            webhook_id=delivery.event_id,
            url=endpoint.url,
            payload=delivery.payload,
            secrets=rows.secrets_of(endpoint, datetime.now(UTC)),
        )


async def _attempt(todo: _Todo, entry: logbook.Entry, by: Policy) -> None:
    now = int(time.time())
    body, entry.headers = signed(todo.payload, webhook_id=todo.webhook_id, at_seconds=now, secrets=todo.secrets)
    entry.response = await send(todo.url, body, entry.headers, by)
    raise_for(entry.response)


def _conclude(here: Setup, todo: _Todo, entry: logbook.Entry, *, slow_ms: float, made_for: int | None) -> None:
    """Log the attempt, then tell the endpoint's line what follows."""
    order = logbook.write(here, todo.id, entry, now=datetime.now(UTC), slow_ms=slow_ms, made_for=made_for)
    lines, line = Lines(deliver_to_endpoint.broker.store), endpoint_line(todo.endpoint_id)
    if order.close_ms:
        lines.close(SERVICE, line, order.close_ms)
    if order.places == 0:
        lines.widen(SERVICE, line)
    elif order.places is not None:
        lines.narrow(SERVICE, line, order.places)


# --- The log's age ---------------------------------------------------------------------------------

_PURGE_ROWS: Final = 1_000


@task(name="fourlane.webhooks.purge", service=SERVICE, tier="P3")
def purge(days: int = 30) -> int:
    """Drop deliveries that have ended and are older than some days, in short transactions. Returns how many."""
    return purge_older(setup().database, datetime.now(UTC) - timedelta(days=days))


def purge_older(database: Database, before: datetime) -> int:
    """As `purge`."""
    from fourlane.tasks.webhooks import rows

    number = 0
    while True:
        with database.begin() as session:
            some = rows.purge(session, before=before, limit=_PURGE_ROWS)
        number += some
        if some < _PURGE_ROWS:
            return number
