"""Jobs that transactions wrote."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Identity, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from fourlane.db.models.base import Base, WithCreation, now

__all__ = ["JobOutbox", "OutboxQuota", "OutboxTask", "OutboxUsage"]


_PENDING: Final = text("relayed_at IS NULL AND failed_at IS NULL AND held_until IS NULL")


class JobOutbox(WithCreation, Base):
    """A job that exists exactly when the transaction that wrote it commits (fourlane/outbox/)."""

    __tablename__ = "job_outbox"
    __table_args__ = (
        Index(
            "ix_job_outbox_pending",
            "position",
            postgresql_where=_PENDING,
            sqlite_where=_PENDING,
        ),
        Index(
            "ix_job_outbox_organization",
            "organization_id",
            "position",
            postgresql_where=_PENDING,
            sqlite_where=_PENDING,
        ),
        Index(
            "ix_job_outbox_held",
            "held_until",
            postgresql_where=text("held_until IS NOT NULL"),
            sqlite_where=text("held_until IS NOT NULL"),
        ),
        Index(
            "ix_job_outbox_later",
            "organization_id",
            "run_at",
            postgresql_where=text("run_at IS NOT NULL AND failed_at IS NULL"),
            sqlite_where=text("run_at IS NOT NULL AND failed_at IS NULL"),
        ),
        Index(
            "ix_job_outbox_relayed",
            "relayed_at",
            postgresql_where=text("relayed_at IS NOT NULL"),
            sqlite_where=text("relayed_at IS NOT NULL"),
        ),
        Index(
            "ix_job_outbox_failed",
            "failed_at",
            postgresql_where=text("failed_at IS NOT NULL"),
            sqlite_where=text("failed_at IS NOT NULL"),
        ),
    )

    position: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), Identity(always=False), primary_key=True
    )
    """In the order of the inserts; the relay goes by it."""
    id: Mapped[uuid.UUID] = mapped_column(unique=True, default=uuid.uuid4)
    """The job's id, and the key under which it is enqueued once."""
    task: Mapped[str]
    service: Mapped[str] = mapped_column(server_default=text("'default'"))
    tier: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    # Text, because jsonb would turn 1e22 into a whole number and refuse \u0000: what is sent must arrive unchanged.
    args: Mapped[str] = mapped_column(server_default=text("'[]'"))
    kwargs: Mapped[str] = mapped_column(server_default=text("'{}'"))
    options: Mapped[str] = mapped_column(server_default=text("'{}'"))
    run_at: Mapped[datetime | None]
    """Not before this; at once when it is null."""
    order_key: Mapped[str | None]
    """An organization's rows of one key reach Redis in the order of their positions."""
    organization_id: Mapped[uuid.UUID | None]
    """On whose behalf; no foreign key, so that a job survives the organization that it cleans up after."""
    created_by: Mapped[uuid.UUID | None]
    held_until: Mapped[datetime | None]
    """A relay found that it is not due for long, and looks at it again then (outbox/held.py)."""
    relayed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    error: Mapped[str | None]


class OutboxTask(WithCreation, Base):
    """A task that members of organizations may enqueue through the database. All others may only be by programs."""

    __tablename__ = "outbox_tasks"

    task: Mapped[str] = mapped_column(primary_key=True)
    service: Mapped[str] = mapped_column(server_default=text("'default'"))
    tier: Mapped[int] = mapped_column(Integer, server_default=text("1"))


class OutboxQuota(WithCreation, Base):
    """What members of an organization may put into the outbox; in the row of the id 0, those of all others."""

    __tablename__ = "outbox_quotas"

    organization_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    waiting_rows: Mapped[int] = mapped_column(server_default=text("10000"))
    waiting_bytes: Mapped[int] = mapped_column(server_default=text("100000000"))
    rows_a_minute: Mapped[int] = mapped_column(server_default=text("6000"))
    bytes_a_minute: Mapped[int] = mapped_column(server_default=text("20000000"))
    days_ahead: Mapped[int] = mapped_column(server_default=text("366"))
    """How far ahead ``run_at`` may be."""


class OutboxUsage(Base):
    """What an organization's members have put in, as the quota counts it (fourlane_take_quota): at least what waits."""

    __tablename__ = "outbox_usage"

    organization_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    waiting_rows: Mapped[int] = mapped_column(server_default=text("0"))
    waiting_bytes: Mapped[int] = mapped_column(server_default=text("0"))
    rows_paid_until: Mapped[datetime] = mapped_column(server_default=now())
    """Each row pays for its part of a minute; who has paid for more than one ahead is too fast."""
    bytes_paid_until: Mapped[datetime] = mapped_column(server_default=now())
