"""Records of notifications: what is asked of them, how one begins, and the key by which it is found again."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass

from fourlane.db.models import NotificationRecord
from fourlane.tasks.notifications.notification import Channel, Notification, address_of

__all__ = ["Order", "digest_key", "item_key", "key_of", "new_record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A notification that a job is to send.

    Parameters:
      tenant: on whose behalf; empty for nobody's. No key of one is a key of another.
      part_of: which one it is of a job that has many, ``JOB:PLACE``; empty for a job's only one.
      record_id: of the record that it has already.
    """

    channel: Channel
    notification: Notification
    job_id: str
    tenant: str = ""
    provider: str = ""
    part_of: str = ""
    record_id: uuid.UUID | None = None

    @property
    def was_handed_on(self) -> bool:
        """Whether jobs one after the other may have it."""
        return bool(self.part_of) or self.record_id is not None

    @property
    def address(self) -> str:
        return address_of(self.channel, self.notification.to)


def new_record(order: Order, key: str) -> NotificationRecord:
    notification = order.notification
    return NotificationRecord(
        id=uuid.uuid4(),
        organization_id=notification.organization_id,
        tenant=order.tenant,
        user_id=notification.user_id,
        channel=order.channel,
        template=notification.template or None,
        recipient=order.address or None,
        status="pending",
        provider=order.provider or None,
        idempotency_key=key,
        job_id=order.job_id,
    )


def key_of(order: Order) -> str:
    """The same for notifications of which only one is sent."""
    if order.notification.dedup_key:
        return _key(order.tenant, "dedup", order.channel, order.address, order.notification.dedup_key)
    return _owned(order.tenant, f"part:{order.part_of}") if order.part_of else f"job:{order.job_id}"


def digest_key(order: Order) -> str:
    """Of the digest that it joins, while that is open."""
    return _key(order.tenant, "digest", order.channel, order.address, order.notification.digest)


def item_key(order: Order) -> str:
    """Of its place in a digest."""
    digest = _hash("digest", order.channel, order.address, order.notification.digest)
    return _key(order.tenant, "item", digest, order.notification.dedup_key or order.part_of or order.job_id)


def _key(tenant: str, *parts: str) -> str:
    return _owned(tenant, _hash(*parts))


def _owned(tenant: str, key: str) -> str:
    return f"{tenant}:{key}" if tenant else key


def _hash(*parts: str) -> str:
    # Long and personal parts do not belong into an index.
    return f"{parts[0]}:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]}"
