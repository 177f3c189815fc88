"""Events for those who asked for them: each becomes a delivery for each endpoint, in the caller's transaction."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fourlane.tasks.webhooks.endpoints import deliver_to_endpoint
from fourlane.tasks.webhooks.lines import digest

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from fourlane.db.models import WebhookDelivery, WebhookEndpoint

__all__ = ["may_be_resent", "payload_version", "resend", "send_event"]

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
    from fourlane.tasks.webhooks import rows

    event_id = event_id or f"msg_{uuid.uuid4().hex}"
    made: list[uuid.UUID] = []
    for endpoint in rows.wanting(session, organization_id, event_type):
        delivery = _delivery(endpoint, event_type, data, event_id, order_key)
        session.add(delivery)
        _enqueue(session, delivery, endpoint)
        made.append(delivery.id)
    return made


def resend(session: Session, deliveries: list[WebhookDelivery]) -> int:
    """Deliver again what may be, under the same ids, when the transaction commits. Returns how many."""
    from fourlane.db.models import WebhookEndpoint

    chosen = may_be_resent(session, deliveries)
    for delivery in chosen:
        delivery.status, delivery.attempts, delivery.error = "pending", 0, None
        _enqueue(session, delivery, session.get_one(WebhookEndpoint, delivery.endpoint_id))
    return len(chosen)


def may_be_resent(session: Session, deliveries: list[WebhookDelivery]) -> list[WebhookDelivery]:
    """Those that have ended, and those pending whose job is gone. Raises RedisUnavailable where some are pending."""
    from fourlane.tasks.webhooks.jobless import jobless

    job_ids = [delivery.job_id for delivery in deliveries if delivery.status == "pending"]
    gone = jobless(session, deliver_to_endpoint.broker.store, job_ids) if job_ids else set()
    return [delivery for delivery in deliveries if delivery.status != "pending" or delivery.job_id in gone]


def _delivery(
    endpoint: WebhookEndpoint, event_type: str, data: Any, event_id: str, order_key: str | None
) -> WebhookDelivery:
    from fourlane.db.models import WebhookDelivery

    shape, now = _versions.get(endpoint.version), datetime.now(UTC)
    return WebhookDelivery(
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


def _enqueue(session: Session, delivery: WebhookDelivery, endpoint: WebhookEndpoint) -> None:
    from fourlane.outbox import enqueue_with_options

    kwargs = {"endpoint_id": endpoint.id.hex, "places": endpoint.max_concurrency}
    job = enqueue_with_options(
        session,
        deliver_to_endpoint,
        args=[delivery.id.hex],
        kwargs=kwargs | ({"order": digest(delivery.order_key)} if delivery.order_key else {}),
        order_key=f"{delivery.endpoint_id}:{delivery.order_key}" if delivery.order_key else None,
        organization_id=delivery.organization_id,
        # The platform's endpoint is not on behalf of whoever's job happens to run here.
        tenant=None if delivery.organization_id is not None else "",
    )
    delivery.job_id = job.id
