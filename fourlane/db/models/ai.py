"""Calls of AI providers."""

from __future__ import annotations

import uuid

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from fourlane.db.models.base import Base, WithCreation, WithId, organization

__all__ = ["AiOperationLog"]


class AiOperationLog(WithId, WithCreation, Base):
    """One call of an AI provider, and what it cost."""

    __tablename__ = "ai_operation_logs"
    __table_args__ = (Index("ix_ai_operation_logs_created", "created_at"),)

    organization_id: Mapped[uuid.UUID | None] = organization(nullable=True)
    user_id: Mapped[uuid.UUID | None]
    job_id: Mapped[str | None]
    operation: Mapped[str]
    """generate, analyze, translate, summarize …"""
    provider: Mapped[str]
    model: Mapped[str]
    input_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    output_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    cost_micro_usd: Mapped[int] = mapped_column(server_default=text("0"))
    """Millionths of a US dollar: a call often costs less than a cent."""
    duration_ms: Mapped[int | None]
    status: Mapped[str]
    """ok or error."""
    error_message: Mapped[str | None]
    trace_id: Mapped[str | None]
