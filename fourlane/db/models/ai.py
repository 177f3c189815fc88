"""Calls of AI providers."""

from __future__ import annotations

import uuid
from decimal import Decimal

from sqlalchemy import Index, false, text, true
from sqlalchemy.orm import Mapped, mapped_column

from fourlane.db.columns import Thousandths
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
    cost_micro_usd: Mapped[Decimal] = mapped_column(Thousandths(), server_default=text("0"))
    """Millionths of a US dollar, with three places: a call often costs less than a cent, an embedding less than one."""
    duration_ms: Mapped[int | None]
    status: Mapped[str]
    """ok or error."""
    error_message: Mapped[str | None]
    trace_id: Mapped[str | None]
    tenant: Mapped[str | None]
    """Whose budget, also where it is no organization."""
    task: Mapped[str | None]
    outcome: Mapped[str | None]
    """ok, truncated, tool_calls, refused, blocked, empty; error: no answer came."""
    cached_input_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    """Of the input, what came from the provider's cache."""
    reasoning_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    """Of the output."""
    cost_estimated: Mapped[bool] = mapped_column(server_default=false())
    """The provider did not tell what the call took."""
    cost_known: Mapped[bool] = mapped_column(server_default=true())
    """Whether the model has a price."""
    first_token_ms: Mapped[int | None]
    """Until the first piece of the answer."""
