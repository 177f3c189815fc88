"""What the database knows of notifications: each send; what people want is in wishes.py, digests in digests.py.

A record's life: ``pending``, then ``sending`` while a call to a provider is under way, then ``sent``; reports make it
``delivered``, ``bounced`` or ``complained``. ``suppressed``: nobody wanted it. ``failed``: it could not be sent.
``collecting``: a digest that is still open. A record found as ``sending`` is one whose call nobody saw the end of;
after a day nobody ever will, and it is ``unclear``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import delete, inspect, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fourlane.db.engine import Database
from fourlane.db.models import (
    NotificationDigestItem,
    NotificationRecord,
)
from fourlane.redact import without_secrets
from fourlane.tasks.notifications import rules
from fourlane.tasks.notifications.digests import Digests
from fourlane.tasks.notifications.notification import Channel, InvalidNotification, Notification
from fourlane.tasks.notifications.records import key_of, new_record
from fourlane.tasks.notifications.wishes import Wishes, lock

__all__ = ["Decision", "Ledger"]

_GONE_OUT: Final = ("sending", "unclear", "sent", "delivered", "bounced", "complained")
_OVER: Final = ("sent", "delivered", "bounced", "complained", "suppressed")
# Later words of a provider win over earlier ones; reports arrive in any order.
_RANK: Final = {"sent": 1, "delivered": 2, "bounced": 3, "complained": 4}


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a notification now.

    Parameters:
      verdict: ``go``: call the provider; ``wait``: until ``at``; ``over``: nothing is to be done.
      status: the record's, or ``duplicate``.
      since: for ``go``, when an earlier call was made at the earliest whose end nobody saw; else None.
      tried_at: when that earlier call was made at the latest.
    """

    verdict: Literal["go", "wait", "over"]
    record_id: uuid.UUID
    status: str = ""
    reason: str = ""
    message_id: str = ""
    at: datetime | None = None
    since: datetime | None = None
    tried_at: datetime | None = None


class Ledger(Wishes):
    """The notifications of a database. Threads may share it.

    Parameters:
      limits: by channel, how many messages one user may get, and in how many milliseconds.
    """

    def __init__(self, database: Database, limits: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(database)
        self.digests = Digests(database)
        self._limits = limits

    def decide(
        self,
        channel: Channel,
        notification: Notification,
        *,
        provider: str,
        job_id: str,
        now: datetime,
        digest_id: uuid.UUID | None = None,
    ) -> Decision:
        """Record the notification, and say whether it may be sent now. For ``go``, it is recorded as under way.

        Raises:
          DatabaseUnavailable
          InvalidNotification: its organization is not known.
        """
        try:
            with self._database.begin() as session:
                return self._decide(session, channel, notification, provider, job_id, now, digest_id)
        except IntegrityError:
            raise InvalidNotification(f"organization {notification.organization_id} is not known") from None

    def _decide(
        self,
        session: Session,
        channel: Channel,
        notification: Notification,
        provider: str,
        job_id: str,
        now: datetime,
        digest_id: uuid.UUID | None,
    ) -> Decision:
        record = self._record(session, channel, notification, provider, job_id, digest_id)
        if record.status in _OVER:
            status = record.status if record.job_id == job_id or digest_id else "duplicate"
            return Decision(
                "over", record.id, status, reason=record.error or "", message_id=record.provider_message_id or ""
            )
        if record.job_id != job_id and digest_id is None and record.status != "failed":
            reason = "job {} sends it" if record.status != "unclear" else "whether job {} sent it is not known"
            return Decision("over", record.id, "duplicate", reason=reason.format(record.job_id))
        record.job_id = job_id
        if record.status in ("sending", "unclear"):
            return Decision("go", record.id, since=record.created_at, tried_at=record.updated_at)
        record.status = "pending"
        unwanted = self.unwanted(session, channel, notification)
        if unwanted:
            record.status, record.error = "suppressed", unwanted
            return Decision("over", record.id, "suppressed", reason=unwanted)
        waits = None if notification.urgent else self._waits(session, channel, notification, now)
        if waits is not None:
            reason, at = waits
            record.error = reason
            return Decision("wait", record.id, "pending", reason=reason, at=at)
        # The limit counts by it. Set anew when it was really sent.
        record.status, record.error, record.sent_at = "sending", None, now
        return Decision("go", record.id)

    def _record(
        self,
        session: Session,
        channel: Channel,
        notification: Notification,
        provider: str,
        job_id: str,
        digest_id: uuid.UUID | None,
    ) -> NotificationRecord:
        if digest_id is not None:
            return session.get_one(NotificationRecord, digest_id)
        key = key_of(channel, notification, job_id)
        lock(session, key)
        record = session.scalar(select(NotificationRecord).where(NotificationRecord.idempotency_key == key))
        if record is None:
            record = new_record(channel, notification, key, job_id)
            record.provider = provider
            session.add(record)
            session.flush()
            session.refresh(record)
        return record

    def _waits(
        self, session: Session, channel: Channel, notification: Notification, now: datetime
    ) -> tuple[str, datetime] | None:
        preferences = self.preferences(session, channel, notification)
        with_hours = [p for p in preferences if p.quiet_from and p.quiet_until]
        hours = rules.that_counts(with_hours, notification.category)
        if hours is not None:
            until = rules.quiet_until(now, hours.time_zone, hours.quiet_from, hours.quiet_until)
            if until is not None:
                return f"quiet hours until {until:%Y-%m-%d %H:%M} UTC", until
        limit = self._limits.get(channel)
        if limit is None or notification.user_id is None:
            return None
        rate, per_ms = limit
        lock(session, f"{channel}:{notification.user_id}")
        sent = session.scalars(
            select(NotificationRecord.sent_at)
            .where(
                NotificationRecord.user_id == notification.user_id,
                NotificationRecord.channel == channel,
                NotificationRecord.status.in_(_GONE_OUT),
                NotificationRecord.sent_at > now - timedelta(milliseconds=per_ms),
            )
            .order_by(NotificationRecord.sent_at)
        ).all()
        free = rules.free_at([moment for moment in sent if moment is not None], rate, per_ms)
        return None if free is None else (f"over the user's limit until {free:%Y-%m-%d %H:%M:%S} UTC", free)

    def sent(self, record_id: uuid.UUID, *, message_id: str, now: datetime) -> None:
        """The provider has taken it. A report that was faster is not written over."""
        with self._database.begin() as session:
            record = session.get_one(NotificationRecord, record_id, with_for_update=True)
            record.provider_message_id = message_id or None
            record.sent_at = now
            if _RANK.get(record.status, 0) < _RANK["sent"]:
                record.status, record.error = "sent", None
            session.execute(delete(NotificationDigestItem).where(NotificationDigestItem.record_id == record_id))

    def not_sent(self, record_id: uuid.UUID, *, status: Literal["pending", "sending", "failed"], error: str) -> None:
        """It was not sent, for this reason; ``sending`` when nobody knows."""
        with self._database.begin() as session:
            session.execute(
                update(NotificationRecord)
                .where(NotificationRecord.id == record_id, NotificationRecord.status.in_(["pending", "sending"]))
                .values(status=status, error=without_secrets(error))
            )

    def knows(self, message_id: str) -> bool:
        """Whether a record has this id of the provider's."""
        with self._database.begin() as session:
            found = select(NotificationRecord.id).where(NotificationRecord.provider_message_id == message_id)
            return session.scalar(found) is not None

    def reported(
        self,
        *,
        record_id: uuid.UUID | None,
        message_id: str,
        status: Literal["sent", "delivered", "bounced", "complained"],
        detail: str = "",
    ) -> str | None:
        """Keep what a provider says became of a message; its recipient's address, or None when it is not ours."""
        ours = NotificationRecord.provider_message_id == message_id
        if record_id is not None:
            ours = NotificationRecord.id == record_id
        with self._database.begin() as session:
            record = session.scalar(select(NotificationRecord).where(ours).with_for_update())
            if record is None:
                return None
            if _RANK[status] > _RANK.get(record.status, 0):
                record.status, record.error = status, detail or None
            record.provider_message_id = record.provider_message_id or message_id
            return record.recipient or ""

    def is_there(self) -> bool:
        """Whether this database has the tables."""
        return inspect(self._database.engine).has_table(NotificationRecord.__tablename__)

    def give_up(self, before: datetime) -> int:
        """Make ``unclear`` what has been ``sending`` since before this moment: its job is dead. How many that were."""
        lost = update(NotificationRecord).where(
            NotificationRecord.status == "sending", NotificationRecord.updated_at < before
        )
        with self._database.begin() as session:
            # When it was tried is told by updated_at, also to a replay.
            values = {"status": "unclear", "updated_at": NotificationRecord.updated_at}
            return len(session.scalars(lost.values(values).returning(NotificationRecord.id)).all())

    def forget(self, before: datetime, *, limit: int = 10_000) -> int:
        """Delete records that were made before this moment, some at a time; how many went. Dead addresses stay."""
        with self._database.begin() as session:
            old = select(NotificationRecord.id).where(NotificationRecord.created_at < before).limit(limit)
            ids = session.scalars(old).all()
            session.execute(delete(NotificationRecord).where(NotificationRecord.id.in_(ids)))
            return len(ids)
