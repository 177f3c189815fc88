"""Organizations, who belongs to them, and the keys that call us on their behalf."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, text
from sqlalchemy.orm import Mapped, mapped_column

from fourlane.db.models.base import Base, WithCreation, WithId, WithUpdate, organization

__all__ = ["ApiKey", "Organization", "OrganizationMember"]


class Organization(WithId, WithUpdate, Base):
    """A customer: the tenant of jobs."""

    __tablename__ = "organizations"

    name: Mapped[str]
    slug: Mapped[str | None] = mapped_column(unique=True)
    stripe_customer_id: Mapped[str | None] = mapped_column(unique=True)
    paypal_payer_id: Mapped[str | None] = mapped_column(unique=True)


class OrganizationMember(WithCreation, Base):
    """Who belongs to an organization; row-level security asks this table."""

    __tablename__ = "organization_members"

    organization_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, index=True)
    role: Mapped[str] = mapped_column(server_default=text("'member'"))


class ApiKey(WithId, WithCreation, Base):
    """A key of a server that calls us. Only its hash is kept."""

    __tablename__ = "api_keys"

    organization_id: Mapped[uuid.UUID | None] = organization(nullable=True)
    name: Mapped[str]
    prefix: Mapped[str]
    """The key's first characters, to tell it apart in a list."""
    key_hash: Mapped[bytes] = mapped_column(unique=True)
    """SHA-256 of the key: it is random, so that no slow hash is needed."""
    scopes: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    created_by: Mapped[uuid.UUID | None]
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
