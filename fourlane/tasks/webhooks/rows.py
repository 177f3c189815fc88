"""Endpoints that webhooks go to, and the log of what was delivered."""

from __future__ import annotations

import base64
import secrets
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from fourlane.db.models import AuditLog, WebhookDelivery, WebhookEndpoint
from fourlane.db.statements import changed_by
from fourlane.tasks.webhooks.reopening import reopen_for

__all__ = ["begin_anew", "disable", "enable", "new_secret", "rotate", "secrets_of", "wanting", "wants"]

OVERLAP: Final = timedelta(hours=24)
"""How long the secret before is valid after a rotation."""


def new_secret() -> str:
    """A secret in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def wants(endpoint: WebhookEndpoint, event_type: str) -> bool:
    """Whether an endpoint asked for events of this type."""
    for pattern in endpoint.event_types:
        beginning, star, _ = str(pattern).partition("*")
        if event_type == pattern or (star and event_type.startswith(beginning)):
            return True
    return False


def wanting(session: Session, organization_id: uuid.UUID | None, event_type: str) -> list[WebhookEndpoint]:
    """The endpoints of an organization, and of the platform itself, that get such an event."""
    owner = WebhookEndpoint.organization_id
    theirs = owner.is_(None) if organization_id is None else or_(owner.is_(None), owner == organization_id)
    rows = session.scalars(select(WebhookEndpoint).where(theirs, WebhookEndpoint.disabled_at.is_(None)))
    return [endpoint for endpoint in rows if wants(endpoint, event_type)]


def find_endpoints(session: Session, *, limit: int) -> Sequence[WebhookEndpoint]:
    """Endpoints, the oldest first."""
    return session.scalars(select(WebhookEndpoint).order_by(WebhookEndpoint.created_at).limit(limit)).all()


def secrets_of(endpoint: WebhookEndpoint, now: datetime) -> list[str]:
    """Those that sign now: while one is being replaced, both."""
    ends = endpoint.previous_secret_expires_at
    old = endpoint.previous_secret if ends is not None and now < ends else None
    return [endpoint.secret] if old is None else [endpoint.secret, old]


def rotate(endpoint: WebhookEndpoint, *, now: datetime, overlap: timedelta = OVERLAP) -> str:
    """Give an endpoint a new secret; the one before signs beside it for a while. Returns the new one."""
    endpoint.previous_secret, endpoint.previous_secret_expires_at = endpoint.secret, now + overlap
    endpoint.secret = new_secret()
    return endpoint.secret


def disable(session: Session, endpoint: WebhookEndpoint, reason: str, *, actor: str, now: datetime) -> None:
    """Deliver nothing more there until it is enabled."""
    endpoint.disabled_at, endpoint.disabled_reason = now, reason
    reopen_for(session, endpoint.id)  # what waits comes, and is skipped
    _audit(session, endpoint, "webhooks.endpoint-disabled", actor, {"reason": reason})


def enable(session: Session, endpoint: WebhookEndpoint, *, actor: str) -> None:
    """Deliver there again, with a clean record."""
    endpoint.disabled_at = endpoint.disabled_reason = None
    begin_anew(session, endpoint)
    _audit(session, endpoint, "webhooks.endpoint-enabled", actor, {})


def begin_anew(session: Session, endpoint: WebhookEndpoint) -> None:
    """What it did before tells nothing of it now."""
    endpoint.failing_since = None
    endpoint.consecutive_failures = endpoint.consecutive_slow = 0
    reopen_for(session, endpoint.id)


def _audit(session: Session, endpoint: WebhookEndpoint, action: str, actor: str, details: dict[str, Any]) -> None:
    session.add(
        AuditLog(
            organization_id=endpoint.organization_id,
            actor=actor,
            action=action,
            resource_type="webhook_endpoints",
            resource_id=str(endpoint.id),
            details=details,
        )
    )


def purge(session: Session, *, before: datetime, limit: int) -> int:
    """Drop some deliveries that have ended and are older. Returns how many; fewer than the limit when none is left."""
    old = (
        select(WebhookDelivery.id)
        .where(WebhookDelivery.created_at < before, WebhookDelivery.status != "pending")
        .order_by(WebhookDelivery.created_at)
        .limit(limit)
    )
    return changed_by(session.execute(delete(WebhookDelivery).where(WebhookDelivery.id.in_(old))))


def find_deliveries(
    session: Session,
    *,
    endpoint_id: uuid.UUID | None = None,
    status: str | None = None,
    event_type: str | None = None,
    since: datetime | None = None,
    ids: Iterable[uuid.UUID] = (),
    limit: int,
) -> Sequence[WebhookDelivery]:
    """Deliveries, the latest first."""
    query = select(WebhookDelivery)
    if chosen := list(ids):
        query = query.where(WebhookDelivery.id.in_(chosen))
    if endpoint_id is not None:
        query = query.where(WebhookDelivery.endpoint_id == endpoint_id)
    if status is not None:
        query = query.where(WebhookDelivery.status == status)
    if event_type is not None:
        query = query.where(WebhookDelivery.event_type == event_type)
    if since is not None:
        query = query.where(WebhookDelivery.created_at >= since)
    return session.scalars(query.order_by(WebhookDelivery.created_at.desc(), WebhookDelivery.id).limit(limit)).all()
