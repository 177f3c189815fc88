"""What people want to get, and the addresses that are written to no more."""

from __future__ import annotations

import hashlib
import uuid
from typing import Final, Literal

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from fourlane.db.engine import Database
from fourlane.db.marks import address_marks
from fourlane.db.models import NotificationPreference, NotificationSuppression
from fourlane.tasks.notifications import rules
from fourlane.tasks.notifications.notification import Channel, Notification, address_of

__all__ = ["ALL_CATEGORIES", "Wishes", "lock"]

ALL_CATEGORIES: Final = "*"


class Wishes:
    """Preferences, quiet hours, unsubscribed and dead addresses of a database. Threads may share it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        self._database.close()

    def prefer(
        self,
        user_id: uuid.UUID,
        channel: Channel,
        category: str = ALL_CATEGORIES,
        *,
        enabled: bool = True,
        quiet_from: str | None = None,
        quiet_until: str | None = None,
        time_zone: str = "UTC",
        organization_id: uuid.UUID | None = None,
    ) -> None:
        """Keep what a user wants, in place of what was kept for this channel and category.

        Raises ValueError for a time of day or a time zone that is none.
        """
        for hour in (quiet_from, quiet_until):
            if hour is not None and not rules.is_time_of_day(hour):
                raise ValueError(f"{hour!r} is no time of day; write it as 22:30")
        if (quiet_from is None) != (quiet_until is None):
            raise ValueError("quiet hours need a beginning and an end")
        if not rules.is_zone(time_zone):
            raise ValueError(f"{time_zone!r} is no time zone; write it as Europe/Vienna")
        with self._database.begin() as session:
            row = self._preference(session, user_id, channel, category)
            row.enabled, row.quiet_from, row.quiet_until = enabled, quiet_from, quiet_until
            row.time_zone, row.organization_id = time_zone, organization_id

    def unsubscribe(self, channel: Channel, category: str, *, user_id: uuid.UUID | None, address: str) -> None:
        """No more messages of this category: for the user, else for the address."""
        with self._database.begin() as session:
            if user_id is not None:
                self._preference(session, user_id, channel, category).enabled = False
            else:
                self._suppress(session, channel, address, category, "unsubscribed", "")

    def _preference(
        self, session: Session, user_id: uuid.UUID, channel: Channel, category: str
    ) -> NotificationPreference:
        lock(session, f"{user_id}:{channel}:{category}")
        row = session.scalar(
            select(NotificationPreference).where(
                NotificationPreference.user_id == user_id,
                NotificationPreference.channel == channel,
                NotificationPreference.category == category,
            )
        )
        if row is None:
            row = NotificationPreference(user_id=user_id, channel=channel, category=category)
            session.add(row)
        return row

    def suppress(
        self,
        channel: Channel,
        address: str,
        *,
        reason: Literal["bounce", "complaint", "unsubscribed"],
        category: str = ALL_CATEGORIES,
        detail: str = "",
    ) -> None:
        """Write to this address no more."""
        with self._database.begin() as session:
            self._suppress(session, channel, address, category, reason, detail)

    def _suppress(
        self, session: Session, channel: Channel, address: str, category: str, reason: str, detail: str
    ) -> None:
        address = address if channel == "push" else address.lower()
        marks = address_marks(channel, address)
        lock(session, marks[0])
        known = session.scalar(
            select(NotificationSuppression.id).where(
                NotificationSuppression.channel == channel,
                NotificationSuppression.address_mark.in_(marks),
                NotificationSuppression.category == category,
                NotificationSuppression.reason == reason,
            )
        )
        if known is None:
            session.execute(
                delete(NotificationSuppression).where(
                    NotificationSuppression.channel == channel,
                    NotificationSuppression.address_mark.in_(marks),
                    NotificationSuppression.category == category,
                )
            )
            session.add(
                NotificationSuppression(
                    channel=channel,
                    address_mark=marks[0],
                    address=address,
                    category=category,
                    reason=reason,
                    detail=detail or None,
                )
            )

    def allow(self, channel: Channel, address: str) -> int:
        """Forget that an address was dead or unsubscribed; how many entries that were."""
        address = address if channel == "push" else address.lower()
        with self._database.begin() as session:
            found = session.scalars(
                delete(NotificationSuppression)
                .where(
                    NotificationSuppression.channel == channel,
                    NotificationSuppression.address_mark.in_(address_marks(channel, address)),
                )
                .returning(NotificationSuppression.id)
            )
            return len(found.all())

    # For a send: in its transaction --------------------------------------------------------------

    def unwanted(self, session: Session, channel: Channel, notification: Notification) -> str:
        """Why nobody wants it, or the address cannot take it; empty when neither is so."""
        address = address_of(channel, notification.to)
        if not address:
            return ""
        dead = session.scalars(
            select(NotificationSuppression).where(
                NotificationSuppression.channel == channel,
                NotificationSuppression.address_mark.in_(address_marks(channel, address)),
                NotificationSuppression.category.in_([ALL_CATEGORIES, notification.category]),
            )
        ).all()
        for row in dead:
            if row.reason != "unsubscribed" or not notification.required:
                return f"the address is suppressed: {row.reason}"
        preference = rules.that_counts(self.preferences(session, channel, notification), notification.category)
        if preference is not None and not preference.enabled and not notification.required:
            return f"unsubscribed from {preference.category}"
        return ""

    def preferences(
        self, session: Session, channel: Channel, notification: Notification
    ) -> list[NotificationPreference]:
        """Those of its user, for its category and for all."""
        if notification.user_id is None:
            return []
        return list(
            session.scalars(
                select(NotificationPreference).where(
                    NotificationPreference.user_id == notification.user_id,
                    NotificationPreference.channel == channel,
                    NotificationPreference.category.in_([ALL_CATEGORIES, notification.category]),
                )
            )
        )


def lock(session: Session, name: str) -> None:
    """Until the transaction ends, others that lock this name wait. SQLite has one writer anyhow."""
    if session.get_bind().dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        session.execute(select(func.pg_advisory_xact_lock(number)))
