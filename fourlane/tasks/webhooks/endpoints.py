"""Events for those who asked for them: each becomes a delivery for each endpoint, in the caller's transaction.

A delivery is a row, and the log of what became of it; its job only moves it. A job that comes twice (a crash before it
was settled) finds the row delivered and does nothing; a receiver that got a delivery twice all the same (its answer was
lost) can tell by ``webhook-id``.

What holds a delivery back spends no attempt: an older one of the same key (endpoints that are ``ordered``), no free
place (``max_concurrency`` in all, and half of a process's slots for one receiver), or a breaker that is open: after 5
failures in a row an endpoint is left alone for 30 s, then one delivery tries it.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import dramatiq.errors

from fourlane.db.setup import database
from fourlane.errors import Reject, Snooze
from fourlane.queues.guards import Receivers
from fourlane.retry import Backoff
from fourlane.root import Root, root
from fourlane.tasks.context import current_job
from fourlane.tasks.task import task
from fourlane.tasks.webhooks import delivery as webhooks

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from fourlane.db.engine import Database
    from fourlane.db.models import WebhookDelivery, WebhookEndpoint
    from fourlane.providers import http

__all__ = ["configure", "deliver_to_endpoint", "payload_version", "purge", "purge_older", "resend", "send_event"]

_log = logging.getLogger("fourlane.webhooks")

SERVICE: Final = "webhooks"
MAX_RETRIES: Final = 3
BREAKER_FAILURES: Final = 5
BREAKER_MS: Final = 30_000
_JOB_MS: Final = 60_000
_HOLD_MS: Final = _JOB_MS + 5_000  # longer than any attempt: a place is free again when its holder has died
_BODY_CHARACTERS: Final = 2_000


@dataclass(frozen=True, slots=True)
class _Policy:
    database: Database
    disable_after: timedelta
    channel_url: str | None


_policy: _Policy | None = None


def configure(database: Database, *, disable_after: timedelta, channel_url: str | None = None) -> None:
    """Set where this process finds endpoints. Without it, the first delivery takes the settings'.

    Parameters:
      disable_after: an endpoint that took nothing for so long, though it was tried, is disabled.
      channel_url: where that is told.
    """
    global _policy
    _policy = _Policy(database, disable_after, channel_url)


def _read_policy() -> _Policy:
    return _policy or root().part(_policy_of)


def _policy_of(of: Root) -> _Policy:
    """A part: this process's database, and what the settings say. Raises SettingsError."""
    settings = of.settings
    return _Policy(
        of.part(database),
        disable_after=timedelta(days=settings.webhook_disable_days),
        channel_url=settings.channel_url.get_secret_value() if settings.channel_url is not None else None,
    )


# --- Sending ---------------------------------------------------------------------------------------

_versions: dict[str, Callable[[str, Any], Any]] = {}


def payload_version(version: str) -> Callable[[Callable[[str, Any], Any]], Callable[[str, Any], Any]]:
    """Say how an event's data look to endpoints of a version: ``function(event_type, data) -> data``."""

    def declare(function: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
        _versions[version] = function
        return function

    return declare


def send_event(
    session: Session,
    event_type: str,
    data: Any,
    *,
    organization_id: uuid.UUID | None = None,
    event_id: str | None = None,
    order_key: str | None = None,
) -> list[uuid.UUID]:
    """Deliver an event to every endpoint that asked for its type, if and when the session's transaction commits.

    Parameters:
      data: JSON. It is sent as ``{"type": …, "timestamp": …, "data": …}``.
      organization_id: whose endpoints; those of the platform itself get every event.
      event_id: the ``webhook-id``; the same event sent again under it violates a constraint.
      order_key: deliveries of one key reach an ``ordered`` endpoint one after another.

    Returns the deliveries' ids.
    """
    from fourlane.db.models import WebhookDelivery
    from fourlane.tasks.webhooks import rows as endpoints

    event_id = event_id or f"msg_{uuid.uuid4().hex}"
    made: list[uuid.UUID] = []
    for endpoint in endpoints.wanting(session, organization_id, event_type):
        shape = _versions.get(endpoint.version)
        now = datetime.now(UTC)
        delivery = WebhookDelivery(
            id=uuid.uuid4(),
            endpoint_id=endpoint.id,
            organization_id=endpoint.organization_id,
            event_id=event_id,
            event_type=event_type,
            order_key=order_key if endpoint.ordered else None,
            payload={
                "type": event_type,
                "timestamp": now.isoformat(),
                "data": data if shape is None else shape(event_type, data),
            },
            created_at=now,
        )
        session.add(delivery)
        _enqueue(session, delivery)
        made.append(delivery.id)
    return made


def resend(session: Session, deliveries: list[WebhookDelivery]) -> int:
    """Deliver again what has ended, under the same ids, when the transaction commits. Returns how many."""
    number = 0
    for delivery in deliveries:
        if delivery.status != "pending":
            delivery.status, delivery.attempts, delivery.error = "pending", 0, None
            _enqueue(session, delivery)
            number += 1
    return number


def _enqueue(session: Session, delivery: WebhookDelivery) -> None:
    from fourlane.outbox import enqueue_with_options

    job = enqueue_with_options(
        session,
        deliver_to_endpoint,
        args=[delivery.id.hex],
        order_key=f"{delivery.endpoint_id}:{delivery.order_key}" if delivery.order_key else None,
        organization_id=delivery.organization_id,
    )
    delivery.job_id = job.id


# --- Delivering ------------------------------------------------------------------------------------


@task(
    name="fourlane.webhooks.deliver_to_endpoint",
    service=SERVICE,
    tier="P1",
    max_retries=MAX_RETRIES,
    backoff=Backoff(min_ms=1_000, max_ms=4_000, jitter=False),
    timeout_ms=_JOB_MS,
    share=0.5,  # it waits on others' servers
)
def deliver_to_endpoint(delivery_id: str) -> None:
    """Make one attempt at a delivery, and log it.

    Raises:
      Snooze: it is held back; no attempt is spent.
      Reject: it can never succeed: the endpoint is disabled or gone, or answered so.
      dramatiq.errors.Retry, DeliveryFailed: it may succeed later.
    """
    from fourlane.tasks.webhooks import rows as endpoints

    policy = _read_policy()
    job = current_job()
    who = job.id if job is not None else delivery_id
    with policy.database.begin() as session:
        delivery, endpoint = _load(session, delivery_id)
        if delivery.status in ("delivered", "skipped"):
            return  # failed ones are tried again: their job was replayed
        if endpoint.disabled_at is not None:
            delivery.status, delivery.error = "skipped", f"the endpoint is disabled: {endpoint.disabled_reason}"
            return
        if delivery.order_key is not None and endpoints.is_waiting_for_another(session, delivery):
            raise Snooze(random.uniform(0.2, 0.4))  # soon: it may be the only one that can go next
        secrets = endpoints.secrets_of(endpoint, datetime.now(UTC))
        # After so many failures one delivery tries whether the endpoint is well again.
        places = endpoint.max_concurrency if endpoint.consecutive_failures < BREAKER_FAILURES else 1
        session.expunge_all()

    with webhooks.place(endpoint.url), _held(endpoint.id.hex, who, places):
        _attempt(policy, delivery, endpoint, secrets)


@contextmanager
def _held(key: str, who: str, places: int) -> Iterator[None]:
    """Hold one of the endpoint's places in all processes. Raises Snooze."""
    receivers = Receivers(deliver_to_endpoint.broker.store)
    wait_ms = receivers.hold(SERVICE, key, who, places=places, hold_ms=_HOLD_MS)
    if wait_ms < 0:
        raise webhooks.later()
    if wait_ms > 0:
        raise Snooze(wait_ms / 1000 + random.uniform(0, 1))
    try:
        yield
    finally:
        receivers.let_go(SERVICE, key, who)


def _load(session: Session, delivery_id: str) -> tuple[WebhookDelivery, WebhookEndpoint]:
    from fourlane.db.models import WebhookDelivery, WebhookEndpoint

    delivery = session.get(WebhookDelivery, uuid.UUID(delivery_id))
    if delivery is None:
        raise Reject("the delivery is gone, with its endpoint or by age")
    return delivery, session.get_one(WebhookEndpoint, delivery.endpoint_id)


def _attempt(policy: _Policy, delivery: WebhookDelivery, endpoint: WebhookEndpoint, secrets: list[str]) -> None:
    headers: dict[str, str] = {}
    response: http.Response | None = None
    try:
        body, headers = webhooks.signed(delivery.payload, webhook_id=delivery.event_id, secrets=secrets)
        response = webhooks.send(endpoint.url, body, headers)
        webhooks.raise_for(response)
    except Reject as error:
        _log_attempt(policy, delivery, headers, response, error, final=True)
        raise
    except (webhooks.DeliveryFailed, dramatiq.errors.Retry) as error:
        job = current_job()
        # Without a job there is nobody to come again; attempts count from 1.
        final = job is None or delivery.attempts + 1 > MAX_RETRIES
        _log_attempt(policy, delivery, headers, response, error, final=final)
        raise
    _log_attempt(policy, delivery, headers, response, None, final=True)


def _log_attempt(
    policy: _Policy,
    delivery: WebhookDelivery,
    headers: dict[str, str],
    response: http.Response | None,
    error: Exception | None,
    *,
    final: bool,
) -> None:
    from fourlane.db.models import WebhookDelivery, WebhookEndpoint

    now = datetime.now(UTC)
    with policy.database.begin() as session:
        row = session.get_one(WebhookDelivery, delivery.id, with_for_update=True)
        row.attempts += 1
        row.request_headers = dict(headers)
        row.error = None if error is None else _stored(str(error))
        if response is not None:
            row.response_status = response.status
            row.response_headers = {str(name): _stored(str(value)) for name, value in response.headers.items()}
            row.response_body = _stored(response.body.decode("utf-8", errors="replace"))
            row.latency_ms = round(response.elapsed_ms)
        else:
            row.response_status = row.response_headers = row.response_body = row.latency_ms = None
        if error is None:
            row.status, row.delivered_at = "delivered", now
        elif final:
            row.status = "failed"
        endpoint = session.get_one(WebhookEndpoint, delivery.endpoint_id, with_for_update=True)
        failures = _judge_endpoint(session, policy, endpoint, error, now)
    if failures >= BREAKER_FAILURES:
        Receivers(deliver_to_endpoint.broker.store).open_breaker(SERVICE, delivery.endpoint_id.hex, BREAKER_MS)


def _stored(text: str) -> str:
    """The beginning, fit for a column: PostgreSQL holds no NUL."""
    return text.replace("\0", "")[:_BODY_CHARACTERS]


def _judge_endpoint(
    session: Session, policy: _Policy, endpoint: WebhookEndpoint, error: Exception | None, now: datetime
) -> int:
    """Count failures in a row; returns how many there are."""
    if error is None:
        if endpoint.consecutive_failures or endpoint.failing_since is not None:
            endpoint.consecutive_failures, endpoint.failing_since = 0, None
        return 0
    endpoint.consecutive_failures += 1
    endpoint.failing_since = endpoint.failing_since or now
    if endpoint.disabled_at is None and now - endpoint.failing_since >= policy.disable_after:
        _disable(session, policy, endpoint, now)
    return endpoint.consecutive_failures


def _disable(session: Session, policy: _Policy, endpoint: WebhookEndpoint, now: datetime) -> None:
    from fourlane.outbox import enqueue
    from fourlane.tasks.webhooks import rows as endpoints

    assert endpoint.failing_since is not None
    reason = f"took nothing since {endpoint.failing_since:%Y-%m-%d %H:%M} UTC"
    endpoints.disable(session, endpoint, reason, actor="fourlane", now=now)
    _log.error("webhook endpoint %s (%s) disabled: it %s", endpoint.id, endpoint.url, reason)
    if policy.channel_url is not None:
        text = f"Webhook endpoint {endpoint.id} ({endpoint.url}) is disabled: it {reason}."
        enqueue(session, webhooks.deliver, policy.channel_url, {"text": text})


# --- The log's age ---------------------------------------------------------------------------------

_PURGE_ROWS: Final = 1_000


@task(name="fourlane.webhooks.purge", service=SERVICE, tier="P3")
def purge(days: int = 30) -> int:
    """Drop deliveries that have ended and are older than some days, in short transactions. Returns how many."""
    return purge_older(_read_policy().database, datetime.now(UTC) - timedelta(days=days))


def purge_older(database: Database, before: datetime) -> int:
    """As `purge`."""
    from fourlane.tasks.webhooks import rows as endpoints

    number = 0
    while True:
        with database.begin() as session:
            some = endpoints.purge(session, before=before, limit=_PURGE_ROWS)
        number += some
        if some < _PURGE_ROWS:
            return number
