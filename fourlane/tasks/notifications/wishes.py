"""What people want to get, and the addresses that are written to no more."""

from __future__ import annotations

import hashlib
import uuid
from typing import Final, Literal

from sqlalchemy import ColumnElement, and_, delete, func, select
from sqlalchemy.orm import Session

from fourlane.db.engine import Database
from fourlane.db.marks import address_marks
from fourlane.db.models import NotificationPreference, NotificationSuppression
from fourlane.tasks.notifications import rules
from fourlane.tasks.notifications.notification import Channel
from fourlane.tasks.notifications.records import Order

__all__ = ["ALL_CATEGORIES", "Reason", "Wishes", "lock"]

ALL_CATEGORIES: Final = "*"
Reason = Literal["bounce", "complaint", "unsubscribed", "stop"]
"""Why an address is written to no more; ``stop``: its owner sent STOP to our number."""


class Wishes:
    """Preferences, quiet hours, unsubscribed and dead addresses of a database. Threads may share it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def close(self) -> None:
        self._database.close()

    def prefer(
        self,
        user_id: uuid.UUID | str,
        channel: Channel,
        category: str = ALL_CATEGORIES,
        *,
        enabled: bool = True,
        quiet_from: str | None = None,
        quiet_until: str | None = None,
        time_zone: str = "UTC",
        organization_id: uuid.UUID | None = None,
        tenant: str = "",
    ) -> None:
        """Keep what a user wants, in place of what was kept for this channel and category.

        Parameters:
          organization_id, tenant: whose messages it is about; without them it is about all, but for those of whom
            there is a wish of their own.

        Raises ValueError for a user's id that is no UUID, and a time of day or a time zone that is none.
        """
        if isinstance(user_id, str):
            user_id = uuid.UUID(user_id)
        for hour in (quiet_from, quiet_until):
            if hour is not None and not rules.is_time_of_day(hour):
                raise ValueError(f"{hour!r} is no time of day; write it as 22:30")
        if (quiet_from is None) != (quiet_until is None):
            raise ValueError("quiet hours need a beginning and an end")
        if not rules.is_zone(time_zone):
            raise ValueError(f"{time_zone!r} is no time zone; write it as Europe/Vienna")
        with self._database.begin() as session:
            row = self._preference(session, user_id, tenant or str(organization_id or ""), channel, category)
            row.enabled, row.quiet_from, row.quiet_until = enabled, quiet_from, quiet_until
            row.time_zone, row.organization_id = time_zone, organization_id

    def unsubscribe(
        self, channel: Channel, category: str, *, user_id: uuid.UUID | None, address: str, tenant: str = ""
    ) -> None:
        """No more messages of this category from this tenant (empty: from all): for the user, else for the address."""
        with self._database.begin() as session:
            if user_id is not None:
                self._preference(session, user_id, tenant, channel, category).enabled = False
            else:
                self._suppress(session, channel, address, tenant, category, "unsubscribed", "")

    def _preference(
        self, session: Session, user_id: uuid.UUID, tenant: str, channel: Channel, category: str
    ) -> NotificationPreference:
        lock(session, f"{tenant}:{user_id}:{channel}:{category}")
        row = session.scalar(
            select(NotificationPreference).where(
                NotificationPreference.user_id == user_id,
                NotificationPreference.tenant == tenant,
                NotificationPreference.channel == channel,
                NotificationPreference.category == category,
            )
        )
        if row is None:
            row = NotificationPreference(user_id=user_id, tenant=tenant, channel=channel, category=category)
            session.add(row)
        return row

    def suppress(
        self,
        channel: Channel,
        address: str,
        *,
        reason: Reason,
        category: str = ALL_CATEGORIES,
        detail: str = "",
        tenant: str = "",
    ) -> None:
        """Write to this address no more.

        Parameters:
          tenant: who shall not; empty for all.
        """
        with self._database.begin() as session:
            self._suppress(session, channel, address, tenant, category, reason, detail)

    def _suppress(
        self,
        session: Session,
        channel: Channel,
        address: str,
        tenant: str,
        category: str,
        reason: Reason,
        detail: str,
    ) -> None:
        address = _plain(channel, address)
        marks = address_marks(channel, address)
        lock(session, marks[0])
        same = (_is(channel, marks), NotificationSuppression.tenant == tenant)
        same_category = NotificationSuppression.category == category
        known = session.scalar(
            select(NotificationSuppression.id).where(*same, same_category, NotificationSuppression.reason == reason)
        )
        if known is not None:
            return
        session.execute(delete(NotificationSuppression).where(*same, same_category))
        session.add(
            NotificationSuppression(
                tenant=tenant,
                channel=channel,
                address_mark=marks[0],
                address=address,
                category=category,
                reason=reason,
                detail=detail or None,
            )
        )

    def allow(self, channel: Channel, address: str, *, reason: Reason | None = None, tenant: str | None = None) -> int:
        """Forget that an address was dead or unsubscribed; how many entries that were.

        Parameters:
          reason: only what was kept for it.
          tenant: only what is a tenant's own.
        """
        found = delete(NotificationSuppression).where(_is(channel, address_marks(channel, _plain(channel, address))))
        if reason is not None:
            found = found.where(NotificationSuppression.reason == reason)
        if tenant is not None:
            found = found.where(NotificationSuppression.tenant == tenant)
        with self._database.begin() as session:
            return len(session.scalars(found.returning(NotificationSuppression.id)).all())

    # For a send: in its transaction --------------------------------------------------------------

    def unwanted(self, session: Session, order: Order) -> str:
        """Why nobody wants it, or the address cannot take it; empty when neither is so."""
        channel, notification, address = order.channel, order.notification, order.address
        if not address:
            return ""
        dead = session.scalars(
            select(NotificationSuppression).where(
                _is(channel, address_marks(channel, address)),
                NotificationSuppression.tenant.in_(_whose(order)),
                NotificationSuppression.category.in_([ALL_CATEGORIES, notification.category]),
            )
        ).all()
        for row in dead:
            if row.reason != "unsubscribed" or not notification.required:
                return f"the address is suppressed: {row.reason}"
        preference = rules.that_counts(self.preferences(session, order), notification.category)
        if preference is not None and not preference.enabled and not notification.required:
            return f"unsubscribed from {preference.category}"
        return ""

    def preferences(self, session: Session, order: Order) -> list[NotificationPreference]:
        """Those of its user, for its category and for all, for its tenant and for all."""
        if order.notification.user_id is None:
            return []
        return list(
            session.scalars(
                select(NotificationPreference).where(
                    NotificationPreference.user_id == order.notification.user_id,
                    NotificationPreference.tenant.in_(_whose(order)),
                    NotificationPreference.channel == order.channel,
                    NotificationPreference.category.in_([ALL_CATEGORIES, order.notification.category]),
                )
            )
        )


def _whose(order: Order) -> list[str]:
    return ["", order.tenant]


def _plain(channel: Channel, address: str) -> str:
    return address if channel == "push" else address.lower()


def _is(channel: Channel, marks: list[str]) -> ColumnElement[bool]:
    return and_(NotificationSuppression.channel == channel, NotificationSuppression.address_mark.in_(marks))


def lock(session: Session, name: str) -> None:
    """Until the transaction ends, others that lock this name wait. SQLite has one writer anyhow."""
    if session.get_bind().dialect.name == "postgresql":
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        session.execute(select(func.pg_advisory_xact_lock(number)))
