"""What the database is told of an attempt: the delivery's log, and how its endpoint stands."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

import dramatiq.errors

from fourlane.tasks.webhooks.channel import tell_channel
from fourlane.tasks.webhooks.setup import Setup
from fourlane.tasks.webhooks.standing import Attempted, Order, Standing, is_over, order, stands

if TYPE_CHECKING:
    import uuid

    from sqlalchemy.orm import Session

    from fourlane.db.models import WebhookDelivery, WebhookEndpoint
    from fourlane.providers import http

__all__ = ["Entry", "skip", "write"]

_log = logging.getLogger("fourlane.webhooks")

_BODY_CHARACTERS: Final = 2_000


@dataclass(slots=True)
class Entry:
    """An attempt: what was sent, and what came of it."""

    headers: dict[str, str] = field(default_factory=dict)
    response: http.Response | None = None
    error: Exception | None = None
    is_final: bool = True
    """Whether no other attempt follows."""

    def attempted(self) -> Attempted:
        return Attempted(
            was_taken=self.error is None,
            took_ms=None if self.response is None else self.response.elapsed_ms,
            after_ms=self.error.delay if isinstance(self.error, dramatiq.errors.Retry) else None,
        )


def write(
    setup: Setup, delivery_id: uuid.UUID, entry: Entry, *, now: datetime, slow_ms: float, made_for: int | None
) -> Order:
    """In one transaction. Returns what follows for the endpoint's line; takes the error away where no attempt follows
    because the endpoint is disabled.

    Parameters:
      made_for: deliveries that the endpoint took at once when this one was made.
    """
    from fourlane.db.models import WebhookDelivery, WebhookEndpoint

    attempted = entry.attempted()
    with setup.database.begin() as session:
        row = session.get_one(WebhookDelivery, delivery_id, with_for_update=True)
        _write_delivery(row, entry, now)
        endpoint = session.get_one(WebhookEndpoint, row.endpoint_id, with_for_update=True)
        before = Standing(endpoint.consecutive_failures, endpoint.consecutive_slow)
        after = stands(before, attempted, slow_ms=slow_ms)
        _write_endpoint(session, setup, endpoint, after, now)
        if endpoint.disabled_at is not None:
            if row.status == "pending":
                skip(row, endpoint)
                entry.error = None  # nobody comes again, and those behind it need not wait
            return Order()  # its line stays open, so that what waits is skipped
        most = endpoint.max_concurrency
        return order(before, after, attempted, most=most, made_for=most if made_for is None else made_for)


def _write_delivery(row: WebhookDelivery, entry: Entry, now: datetime) -> None:
    response = entry.response
    row.attempts += 1
    row.request_headers = dict(entry.headers)
    row.error = None if entry.error is None else _stored(str(entry.error))
    if response is not None:
        row.response_status = response.status
        row.response_headers = {str(name): _stored(str(value)) for name, value in response.headers.items()}
        row.response_body = _stored(response.body.decode("utf-8", errors="replace"))
        row.latency_ms = round(response.elapsed_ms)
    else:
        row.response_status = row.response_headers = row.response_body = row.latency_ms = None
    if entry.error is None:
        row.status, row.delivered_at = "delivered", now
    elif entry.is_final:
        row.status = "failed"


def skip(row: WebhookDelivery, endpoint: WebhookEndpoint) -> None:
    """It is not delivered, for its endpoint is disabled."""
    row.status, row.error = "skipped", f"the endpoint is disabled: {endpoint.disabled_reason}"


def _stored(text: str) -> str:
    """The beginning, fit for a column: PostgreSQL holds no NUL."""
    return text.replace("\0", "")[:_BODY_CHARACTERS]


def _write_endpoint(
    session: Session, setup: Setup, endpoint: WebhookEndpoint, standing: Standing, now: datetime
) -> None:
    endpoint.consecutive_failures, endpoint.consecutive_slow = standing.failures, standing.slow
    if not standing.failures:
        endpoint.failing_since = None
        return
    endpoint.failing_since = endpoint.failing_since or now
    if endpoint.disabled_at is None and is_over(endpoint.failing_since, now, patience=setup.disable_after):
        _disable(session, setup, endpoint, endpoint.failing_since, now)


def _disable(session: Session, setup: Setup, endpoint: WebhookEndpoint, since: datetime, now: datetime) -> None:
    from fourlane.outbox import enqueue
    from fourlane.tasks.webhooks import rows

    reason = f"took nothing since {since:%Y-%m-%d %H:%M} UTC"
    rows.disable(session, endpoint, reason, actor="fourlane", now=now)
    _log.error("webhook endpoint %s (%s) disabled: it %s", endpoint.id, endpoint.url, reason)
    if setup.has_channel:
        enqueue(session, tell_channel, f"Webhook endpoint {endpoint.id} ({endpoint.url}) is disabled: it {reason}.")
