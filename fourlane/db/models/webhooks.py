"""Webhooks that go out."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from fourlane.db.columns import Encrypted
from fourlane.db.models.base import Base, WithId, WithUpdate, organization

__all__ = ["WebhookDelivery", "WebhookEndpoint"]


class WebhookEndpoint(WithId, WithUpdate, Base):
    """Where an organization wants its events delivered."""

    __tablename__ = "webhook_endpoints"

    organization_id: Mapped[uuid.UUID | None] = organization(nullable=True)
    url: Mapped[str]
    description: Mapped[str | None]
    secret: Mapped[str] = mapped_column(Encrypted("webhook_endpoints.secret"))
    previous_secret: Mapped[str | None] = mapped_column(Encrypted("webhook_endpoints.previous_secret"))
    previous_secret_expires_at: Mapped[datetime | None]
    event_types: Mapped[list[Any]] = mapped_column(server_default=text("'[\"*\"]'"))
    """Types, or beginnings with a star: ``invoice.*``."""
    version: Mapped[str] = mapped_column(server_default=text("'1'"))
    max_concurrency: Mapped[int] = mapped_column(server_default=text("10"))
    ordered: Mapped[bool] = mapped_column(server_default=text("false"))
    failing_since: Mapped[datetime | None]
    consecutive_failures: Mapped[int] = mapped_column(server_default=text("0"))
    consecutive_slow: Mapped[int] = mapped_column(server_default=text("0"))
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]


class WebhookDelivery(WithId, WithUpdate, Base):
    """One event for one endpoint, with the last attempt's request, response and latency."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "event_id"),
        Index("ix_webhook_deliveries_created", "created_at"),
        Index("ix_webhook_deliveries_status", "endpoint_id", "status", "created_at"),
    )

    endpoint_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    organization_id: Mapped[uuid.UUID | None] = organization(nullable=True)
    event_id: Mapped[str]
    event_type: Mapped[str]
    order_key: Mapped[str | None]
    payload: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(server_default=text("'pending'"))
    """pending, delivered, failed or skipped."""
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    job_id: Mapped[str | None]
    request_headers: Mapped[dict[str, Any] | None]
    response_status: Mapped[int | None]
    response_headers: Mapped[dict[str, Any] | None]
    response_body: Mapped[str | None]
    latency_ms: Mapped[int | None]
    error: Mapped[str | None]
    delivered_at: Mapped[datetime | None]
