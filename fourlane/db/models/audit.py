"""What is kept for auditors and guards."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from fourlane.db.columns import Encrypted
from fourlane.db.models.base import Base, WithCreation, WithId, organization

__all__ = ["AuditLog", "SecurityEvent"]


class AuditLog(WithId, WithCreation, Base):
    """Who did what. Rows are added, never changed."""

    __tablename__ = "audit_logs"
    __table_args__ = (Index("ix_audit_logs_created", "created_at"),)

    organization_id: Mapped[uuid.UUID | None] = organization(nullable=True)
    actor: Mapped[str]
    """A user's id, or the name of a program or operator."""
    action: Mapped[str]
    resource_type: Mapped[str | None]
    resource_id: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    ip_address: Mapped[str | None] = mapped_column(Encrypted("audit_logs.ip_address"))
    request_id: Mapped[str | None]


class SecurityEvent(WithId, WithCreation, Base):
    """Something that a guard should look at: a forged webhook, a failed login, a mass export."""

    __tablename__ = "security_events"
    __table_args__ = (Index("ix_security_events_created", "created_at"),)

    organization_id: Mapped[uuid.UUID | None] = organization(nullable=True)
    user_id: Mapped[uuid.UUID | None]
    kind: Mapped[str]
    severity: Mapped[str]
    """info, warning or critical."""
    source: Mapped[str | None]
    """What noticed it, e.g. ``webhooks.stripe``."""
    ip_address: Mapped[str | None] = mapped_column(Encrypted("security_events.ip_address"))
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
