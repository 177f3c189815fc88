"""Digests: notifications that are collected for a while, and sent as one."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select

from fourlane.db.engine import Database
from fourlane.db.models import NotificationDigestItem, NotificationRecord
from fourlane.tasks.notifications.notification import Notification
from fourlane.tasks.notifications.records import Order, digest_key, item_key, new_record
from fourlane.tasks.notifications.wishes import lock

__all__ = ["Collected", "Digests"]


@dataclass(frozen=True, slots=True)
class Collected:
    """A notification has joined a digest.

    Parameters:
      is_new: it was not in there before; False when its job runs again.
    """

    record_id: uuid.UUID
    closes_at: datetime
    is_first: bool
    is_new: bool


class Digests:
    """Those of a database. Threads may share it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self, order: Order) -> Collected:
        """Add a notification to the open digest of its tenant and recipient, or begin one."""
        key, own_key, notification = digest_key(order), item_key(order), order.notification
        with self._database.begin() as session:
            lock(session, key)
            item = session.scalar(select(NotificationDigestItem).where(NotificationDigestItem.item_key == own_key))
            if item is not None:
                record = session.get_one(NotificationRecord, item.record_id)
                return Collected(record.id, _closes_at(record, notification), is_first=False, is_new=False)
            record_or_none = session.scalar(select(NotificationRecord).where(NotificationRecord.idempotency_key == key))
            is_first = record_or_none is None
            record = record_or_none or new_record(order, key)
            if is_first:
                record.status = "collecting"
                session.add(record)
                session.flush()
                session.refresh(record)
            data = json.dumps(notification.data)
            session.add(NotificationDigestItem(record_id=record.id, item_key=own_key, data=data))
            return Collected(record.id, _closes_at(record, notification), is_first=is_first, is_new=True)

    def close(self, record_id: uuid.UUID, *, tenant: str) -> list[dict[str, Any]]:
        """End the collecting; the data of all items, in their order. None are left once it was sent, and there are none
        of another tenant's."""
        with self._database.begin() as session:
            record = session.get(NotificationRecord, record_id)
            if record is None or record.tenant not in ("", tenant):
                return []
            lock(session, record.idempotency_key or "")
            session.refresh(record)
            if record.status == "collecting":
                record.status = "pending"
                record.idempotency_key = f"{record.idempotency_key}:{record.id}"  # the next one begins another
            items = session.scalars(
                select(NotificationDigestItem)
                .where(NotificationDigestItem.record_id == record_id)
                .order_by(NotificationDigestItem.created_at, NotificationDigestItem.id)
            ).all()
            return [json.loads(item.data) for item in items]


def _closes_at(record: NotificationRecord, notification: Notification) -> datetime:
    return record.created_at.astimezone(UTC) + timedelta(seconds=notification.digest_seconds)
