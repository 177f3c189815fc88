"""Records of notifications: how one begins, and the key by which it is found again."""

from __future__ import annotations

import hashlib
import json
import uuid

from fourlane.db.models import NotificationRecord
from fourlane.tasks.notifications.notification import Channel, Notification, address_of

__all__ = ["digest_key", "item_key", "key_of", "new_record"]


def new_record(channel: Channel, notification: Notification, key: str, job_id: str) -> NotificationRecord:
    return NotificationRecord(
        id=uuid.uuid4(),
        organization_id=notification.organization_id,
        user_id=notification.user_id,
        channel=channel,
        template=notification.template or None,
        recipient=address_of(channel, notification.to) or None,
        status="pending",
        idempotency_key=key,
        job_id=job_id,
    )


def key_of(channel: Channel, notification: Notification, job_id: str) -> str:
    """The same for notifications of which only one is sent."""
    if not notification.dedup_key:
        return f"job:{job_id}"
    return _hash("dedup", channel, address_of(channel, notification.to), notification.dedup_key)


def digest_key(channel: Channel, notification: Notification) -> str:
    """Of the digest that it joins, while that is open."""
    return _hash("digest", channel, address_of(channel, notification.to), notification.digest)


def item_key(digest: str, notification: Notification, job_id: str) -> str:
    """Of its place in a digest."""
    return _hash("item", digest, notification.dedup_key or job_id)


def _hash(*parts: str) -> str:
    # Long and personal parts do not belong into an index.
    return f"{parts[0]}:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]}"
