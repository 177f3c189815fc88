"""What the database knows of notifications: each send; what people want is in wishes.py, digests in digests.py.

A record's life: ``pending``, then ``sending`` while a call to a provider is under way, then ``sent``; reports make it
``delivered``, ``bounced`` or ``complained``. ``suppressed``: nobody wanted it. ``failed``: it could not be sent.
``collecting``: a digest that is still open. A record found as ``sending`` is one whose call nobody saw the end of;
after a day nobody ever will, and it is ``unclear``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fourlane.db.engine import Database
from fourlane.db.models import NotificationDigestItem, NotificationRecord
from fourlane.redact import without_secrets
from fourlane.tasks.notifications import rules
from fourlane.tasks.notifications.digests import Digests
from fourlane.tasks.notifications.notification import InvalidNotification
from fourlane.tasks.notifications.records import Order, key_of, new_record
from fourlane.tasks.notifications.wishes import Wishes, lock

__all__ = ["Decision", "Ledger", "Reported"]

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
      batch: in which it went, or may have gone, with others of its job.
    """

    verdict: Literal["go", "wait", "over"]
    record_id: uuid.UUID
    status: str = ""
    reason: str = ""
    message_id: str = ""
    at: datetime | None = None
    since: datetime | None = None
    tried_at: datetime | None = None
    batch: str = ""


class Reported(NamedTuple):
    """A message that a provider has told of."""

    address: str
    tenant: str


class Ledger(Wishes):
    """The notifications of a database. Threads may share it.

    Parameters:
      limits: by channel, how many messages one user may get, and in how many milliseconds.
    """

    def __init__(self, database: Database, limits: Mapping[str, tuple[int, int]]) -> None:
        super().__init__(database)
        self.digests = Digests(database)
        self._limits = limits

    def decide(self, order: Order, *, now: datetime) -> Decision:
        """Record the notification, and say whether it may be sent now. For ``go``, it is recorded as under way.

        Raises:
          DatabaseUnavailable
          InvalidNotification: its organization is not known.
        """
        try:
            with self._database.begin() as session:
                return self._decide(session, order, now)
        except IntegrityError:
            raise InvalidNotification(f"organization {order.notification.organization_id} is not known") from None

    def _decide(self, session: Session, order: Order, now: datetime) -> Decision:
        record = self._record(session, order)
        if record.status in _OVER:
            is_own = record.job_id == order.job_id or order.was_handed_on
            return Decision(
                "over",
                record.id,
                record.status if is_own else "duplicate",
                reason=record.error or "",
                message_id=record.provider_message_id or "",
                batch=record.batch or "" if record.job_id == order.job_id else "",
            )
        # What was handed on to this job is free as long as no other calls a provider with it.
        free = ("failed", "pending") if order.was_handed_on else ("failed",)
        if record.job_id != order.job_id and record.status not in free:
            reason = "job {} sends it" if record.status != "unclear" else "whether job {} sent it is not known"
            return Decision("over", record.id, "duplicate", reason=reason.format(record.job_id))
        record.job_id = order.job_id
        if record.status in ("sending", "unclear"):
            tried_at = record.updated_at
            return Decision("go", record.id, batch=record.batch or "", since=record.created_at, tried_at=tried_at)
        record.status = "pending"
        unwanted = self.unwanted(session, order)
        if unwanted:
            record.status, record.error = "suppressed", unwanted
            return Decision("over", record.id, "suppressed", reason=unwanted)
        waits = None if order.notification.urgent else self._waits(session, order, now)
        if waits is not None:
            reason, at = waits
            record.error = reason
            return Decision("wait", record.id, "pending", reason=reason, at=at)
        # The limit counts by it. Set anew when it was really sent.
        record.status, record.error, record.sent_at = "sending", None, now
        return Decision("go", record.id)

    def _record(self, session: Session, order: Order) -> NotificationRecord:
        if order.record_id is not None:
            return session.get_one(NotificationRecord, order.record_id, with_for_update=True)
        key = key_of(order)
        lock(session, key)
        record = session.scalar(select(NotificationRecord).where(NotificationRecord.idempotency_key == key))
        if record is None:
            record = new_record(order, key)
            session.add(record)
            session.flush()
            session.refresh(record)
        return record

    def _waits(self, session: Session, order: Order, now: datetime) -> tuple[str, datetime] | None:
        preferences = self.preferences(session, order)
        with_hours = [p for p in preferences if p.quiet_from and p.quiet_until]
        hours = rules.that_counts(with_hours, order.notification.category)
        if hours is not None:
            until = rules.quiet_until(now, hours.time_zone, hours.quiet_from, hours.quiet_until)
            if until is not None:
                return f"quiet hours until {until:%Y-%m-%d %H:%M} UTC", until
        limit = self._limits.get(order.channel)
        if limit is None or order.notification.user_id is None:
            return None
        free = self._free_at(session, order, limit, now)
        return None if free is None else (f"over the user's limit until {free:%Y-%m-%d %H:%M:%S} UTC", free)

    def _free_at(self, session: Session, order: Order, limit: tuple[int, int], now: datetime) -> datetime | None:
        """When the user may get one more of this tenant; None for now."""
        rate, per_ms = limit
        user_id = order.notification.user_id
        lock(session, f"{order.tenant}:{order.channel}:{user_id}")
        sent = session.scalars(
            select(NotificationRecord.sent_at)
            .where(
                NotificationRecord.user_id == user_id,
                NotificationRecord.tenant == order.tenant,
                NotificationRecord.channel == order.channel,
                NotificationRecord.status.in_(_GONE_OUT),
                NotificationRecord.sent_at > now - timedelta(milliseconds=per_ms),
            )
            .order_by(NotificationRecord.sent_at)
        ).all()
        return rules.free_at([moment for moment in sent if moment is not None], rate, per_ms)

    def join(self, record_ids: Sequence[uuid.UUID], batch: str) -> None:
        """They go out together."""
        with self._database.begin() as session:
            session.execute(update(NotificationRecord).where(NotificationRecord.id.in_(record_ids)).values(batch=batch))

    def sent(
        self,
        receipts: Mapping[uuid.UUID, str],
        *,
        refused: Mapping[uuid.UUID, str] | None = None,
        now: datetime,
    ) -> None:
        """The provider has taken them. A report that was faster is not written over.

        Parameters:
          receipts: by record, the provider's id.
          refused: of those that went out with them, what was not taken, and why.
        """
        with self._database.begin() as session:
            # In one order: two that hold rows for each other would wait for ever.
            for record_id in sorted(receipts):
                record = session.get_one(NotificationRecord, record_id, with_for_update=True)
                record.provider_message_id = receipts[record_id] or None
                record.sent_at = now
                if _RANK.get(record.status, 0) < _RANK["sent"]:
                    record.status, record.error = "sent", None
            items = NotificationDigestItem.record_id.in_(list(receipts))
            session.execute(delete(NotificationDigestItem).where(items))
            for record_id, error in (refused or {}).items():
                _not_sent(session, [record_id], "pending", error)

    def not_sent(
        self, record_ids: Sequence[uuid.UUID], *, status: Literal["pending", "sending", "failed"], error: str
    ) -> None:
        """They were not sent, for this reason; ``sending`` when nobody knows."""
        with self._database.begin() as session:
            _not_sent(session, record_ids, status, error)

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
    ) -> Reported | None:
        """Keep what a provider says became of a message. Whose it was, or None when it is not ours."""
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
            return Reported(record.recipient or "", record.tenant)

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


def _not_sent(session: Session, record_ids: Sequence[uuid.UUID], status: str, error: str) -> None:
    values: dict[str, str | None] = {"status": status, "error": without_secrets(error)}
    if status != "sending":
        values["batch"] = None
    under_way = NotificationRecord.status.in_(["pending", "sending"])
    session.execute(update(NotificationRecord).where(NotificationRecord.id.in_(record_ids), under_way).values(values))
