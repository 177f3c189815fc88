"""Messages to people, and what these want."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from fourlane.db.columns import Encrypted
from fourlane.db.models.base import Base, WithCreation, WithId, WithUpdate, organization

__all__ = ["NotificationDigestItem", "NotificationPreference", "NotificationRecord", "NotificationSuppression"]


class NotificationRecord(WithId, WithUpdate, Base):
    """One message to one person."""

    __tablename__ = "notification_records"
    __table_args__ = (Index("ix_notification_records_created", "created_at"),)

    organization_id: Mapped[uuid.UUID | None] = organization(nullable=True)
    tenant: Mapped[str] = mapped_column(server_default=text("''"))
    """On whose behalf; empty for nobody's. Keys are a tenant's own."""
    user_id: Mapped[uuid.UUID | None] = mapped_column(index=True)
    channel: Mapped[str]
    """email, sms, push, slack or pagerduty."""
    template: Mapped[str | None]
    recipient: Mapped[str | None] = mapped_column(Encrypted("notification_records.recipient"))
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    """collecting, pending, sending, sent, delivered, bounced, complained, failed, suppressed or unclear."""
    provider: Mapped[str | None]
    provider_message_id: Mapped[str | None] = mapped_column(index=True)
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    job_id: Mapped[str | None]
    batch: Mapped[str | None]
    """With which others of its job it went out, or may have gone: the key of their request."""
    error: Mapped[str | None]
    sent_at: Mapped[datetime | None]


class NotificationPreference(WithId, WithUpdate, Base):
    """Whether a person wants messages of a category on a channel, and when not."""

    __tablename__ = "notification_preferences"
    __table_args__ = (
        Index("ux_notification_preferences_wish", "user_id", "tenant", "channel", "category", unique=True),
    )

    organization_id: Mapped[uuid.UUID | None] = organization(nullable=True)
    tenant: Mapped[str] = mapped_column(server_default=text("''"))
    """Whose messages it is about; empty for those of all."""
    user_id: Mapped[uuid.UUID]
    channel: Mapped[str]
    category: Mapped[str] = mapped_column(server_default=text("'*'"))
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    quiet_from: Mapped[str | None]
    """HH:MM in ``time_zone``."""
    quiet_until: Mapped[str | None]
    time_zone: Mapped[str] = mapped_column(server_default=text("'UTC'"))


class NotificationDigestItem(WithId, WithCreation, Base):
    """A notification that waits to be sent together with others."""

    __tablename__ = "notification_digest_items"

    record_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("notification_records.id", ondelete="CASCADE"), index=True)
    """The one message that they become."""
    item_key: Mapped[str] = mapped_column(unique=True)
    data: Mapped[str] = mapped_column(Encrypted("notification_digest_items.data"))
    """The template's variables, as JSON."""


class NotificationSuppression(WithId, WithCreation, Base):
    """An address that is not written to any more."""

    __tablename__ = "notification_suppressions"
    __table_args__ = (
        Index("ux_notification_suppressions_address", "channel", "address_mark", "tenant", "category", unique=True),
    )

    tenant: Mapped[str] = mapped_column(server_default=text("''"))
    """Who writes to it no more; empty for all."""
    channel: Mapped[str]
    address_mark: Mapped[str]
    """By which the address is found (``Keyring.marks``)."""
    address: Mapped[str] = mapped_column(Encrypted("notification_suppressions.address"))
    category: Mapped[str] = mapped_column(server_default=text("'*'"))
    reason: Mapped[str]
    """bounce, complaint or unsubscribed."""
    detail: Mapped[str | None]
