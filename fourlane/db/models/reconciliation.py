"""Comparisons of providers' books with ours."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from fourlane.db.models.base import Base, WithCreation, WithId, WithUpdate, now, organization

__all__ = ["ReconciliationFinding", "ReconciliationRun", "ReconciliationSeen"]


class ReconciliationRun(WithId, WithUpdate, Base):
    """One comparison of a provider's books with ours, and how far it got."""

    __tablename__ = "reconciliation_runs"
    __table_args__ = (
        Index("ix_reconciliation_runs_period", "provider", "period_start", "period_end"),
        Index(
            "ix_reconciliation_runs_running",
            "provider",
            "period_start",
            "period_end",
            unique=True,
            postgresql_where=text("status = 'running'"),
            sqlite_where=text("status = 'running'"),
        ),
    )

    provider: Mapped[str]
    period_start: Mapped[datetime]
    period_end: Mapped[datetime]
    status: Mapped[str] = mapped_column(server_default=text("'running'"))
    """running, done or failed."""
    repair: Mapped[bool] = mapped_column(server_default=text("false"))
    cursor: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Where to go on after a crash."""
    pages: Mapped[int] = mapped_column(server_default=text("0"))
    compared: Mapped[int] = mapped_column(server_default=text("0"))
    found: Mapped[int] = mapped_column(server_default=text("0"))
    repaired: Mapped[int] = mapped_column(server_default=text("0"))
    error: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(server_default=now())
    finished_at: Mapped[datetime | None]


class ReconciliationFinding(WithId, WithCreation, Base):
    """One difference between a provider's books and ours."""

    __tablename__ = "reconciliation_findings"

    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("reconciliation_runs.id", ondelete="CASCADE"), index=True)
    last_run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("reconciliation_runs.id", ondelete="SET NULL"))
    """The last run that still saw it."""
    organization_id: Mapped[uuid.UUID | None] = organization(nullable=True)
    provider: Mapped[str]
    kind: Mapped[str]
    """missing_here, missing_there, amount, currency, status, duplicate, orphan_refund, late …"""
    fingerprint: Mapped[str] = mapped_column(unique=True)
    """The same difference has the same one in every run, so that it is found once."""
    provider_id: Mapped[str | None]
    our_table: Mapped[str | None]
    our_id: Mapped[uuid.UUID | None]
    provider_amount_minor: Mapped[int | None]
    provider_currency: Mapped[str | None]
    provider_status: Mapped[str | None]
    our_amount_minor: Mapped[int | None]
    our_currency: Mapped[str | None]
    our_status: Mapped[str | None]
    occurred_at: Mapped[datetime | None]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    repaired_at: Mapped[datetime | None]
    repair: Mapped[str | None]
    resolved_at: Mapped[datetime | None]


class ReconciliationSeen(Base):
    """What a run has seen in the provider's books; gone when the run is done."""

    __tablename__ = "reconciliation_seen"
    __table_args__ = (
        Index("ix_reconciliation_seen_ref", "run_id", "ref"),
        Index("ix_reconciliation_seen_alias", "run_id", "alias"),
        Index("ix_reconciliation_seen_group", "run_id", "payment"),
    )

    run_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("reconciliation_runs.id", ondelete="CASCADE"), primary_key=True
    )
    object: Mapped[str] = mapped_column(primary_key=True)
    ref: Mapped[str] = mapped_column(primary_key=True)
    alias: Mapped[str | None]
    """Another id of it, under which our books may have it."""
    payment: Mapped[str | None]
    """Charges of one payment pay for the same thing."""
    amount_minor: Mapped[int | None]
    currency: Mapped[str]
    status: Mapped[str]
    at: Mapped[datetime]
