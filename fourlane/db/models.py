"""The tables: those of the platform that Fourlane reads or writes, and its own.

The SQL files in ``migrations/`` make them; a test compares both. Money is a whole number of the currency's minor
unit (cents; yen have none) beside its currency, never a float. Every moment has a time zone.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, Integer, LargeBinary, Text, UniqueConstraint, Uuid, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.expression import FunctionElement

from fourlane.db.columns import Encrypted, Json, Timestamp

__all__ = [
    "AiOperationLog",
    "ApiKey",
    "AuditLog",
    "Base",
    "CreditAccount",
    "CreditTransaction",
    "Invoice",
    "JobOutbox",
    "NotificationDigestItem",
    "NotificationPreference",
    "NotificationRecord",
    "NotificationSuppression",
    "Organization",
    "OrganizationMember",
    "OutboxTask",
    "PaymentMethod",
    "ReconciliationFinding",
    "ReconciliationRun",
    "ReconciliationSeen",
    "SchemaVersion",
    "SecurityEvent",
    "Subscription",
    "WebhookDelivery",
    "WebhookEndpoint",
    "now",
]


class now(FunctionElement[datetime]):
    """The database's clock."""

    type = Timestamp()
    inherit_cache = True


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **_: Any) -> str:
    return "now()"


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **_: Any) -> str:
    return "(strftime('%Y-%m-%d %H:%M:%f000', 'now'))"


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {  # noqa: RUF012  (SQLAlchemy's own protocol)
        str: Text(),
        int: BigInteger(),
        bytes: LargeBinary(),
        datetime: Timestamp(),
        uuid.UUID: Uuid(),
        dict[str, Any]: Json,
        list[Any]: Json,
    }


class _WithId:
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4, sort_order=-1)


class _WithCreation:
    created_at: Mapped[datetime] = mapped_column(server_default=now(), sort_order=1)


class _WithUpdate(_WithCreation):
    updated_at: Mapped[datetime] = mapped_column(server_default=now(), onupdate=now(), sort_order=2)


def _organization(*, nullable: bool = False) -> Any:
    return mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), nullable=nullable, index=True)


class SchemaVersion(Base):
    """A migration that was applied (fourlane/db/migrate.py)."""

    __tablename__ = "schema_versions"

    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    description: Mapped[str | None]
    applied_at: Mapped[datetime | None]
    applied_by: Mapped[str | None]
    checksum: Mapped[str | None]
    rollback_sql: Mapped[str | None]


# The platform's -------------------------------------------------------------------------------------------------


class Organization(_WithId, _WithUpdate, Base):
    """A customer: the tenant of jobs."""

    __tablename__ = "organizations"

    name: Mapped[str]
    slug: Mapped[str | None] = mapped_column(unique=True)
    stripe_customer_id: Mapped[str | None] = mapped_column(unique=True)
    paypal_payer_id: Mapped[str | None] = mapped_column(unique=True)


class OrganizationMember(_WithCreation, Base):
    """Who belongs to an organization; row-level security asks this table."""

    __tablename__ = "organization_members"

    organization_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True
    )
    user_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, index=True)
    role: Mapped[str] = mapped_column(server_default=text("'member'"))


class CreditAccount(_WithId, _WithUpdate, Base):
    """An organization's credits, as a whole number."""

    __tablename__ = "credit_accounts"

    organization_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), unique=True)
    balance: Mapped[int] = mapped_column(server_default=text("0"))


class CreditTransaction(_WithId, _WithCreation, Base):
    """One booking of credits, and the payment or refund behind it where there is one."""

    __tablename__ = "credit_transactions"
    __table_args__ = (
        UniqueConstraint("provider", "provider_transaction_id"),
        Index("ix_credit_transactions_occurred", "provider", "occurred_at"),
    )

    organization_id: Mapped[uuid.UUID] = _organization()
    credit_account_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("credit_accounts.id", ondelete="CASCADE"))
    kind: Mapped[str]
    """purchase, usage, refund, grant, adjustment or expiry."""
    credits: Mapped[int]
    """What the balance changes by: less than 0 when credits are spent."""
    amount_minor: Mapped[int | None]
    currency: Mapped[str | None]
    provider: Mapped[str | None]
    provider_transaction_id: Mapped[str | None]
    """The provider's id of the charge, capture or refund."""
    status: Mapped[str] = mapped_column(server_default=text("'succeeded'"))
    description: Mapped[str | None]
    idempotency_key: Mapped[str | None] = mapped_column(unique=True)
    occurred_at: Mapped[datetime] = mapped_column(server_default=now())


class Subscription(_WithId, _WithUpdate, Base):
    """A subscription at a provider."""

    __tablename__ = "subscriptions"
    __table_args__ = (UniqueConstraint("provider", "provider_subscription_id"),)

    organization_id: Mapped[uuid.UUID] = _organization()
    provider: Mapped[str]
    provider_subscription_id: Mapped[str]
    plan: Mapped[str | None]
    status: Mapped[str]
    amount_minor: Mapped[int | None]
    currency: Mapped[str | None]
    current_period_start: Mapped[datetime | None]
    current_period_end: Mapped[datetime | None]
    cancel_at_period_end: Mapped[bool] = mapped_column(server_default=text("false"))
    canceled_at: Mapped[datetime | None]


class Invoice(_WithId, _WithUpdate, Base):
    """An invoice, and what became of it."""

    __tablename__ = "invoices"
    __table_args__ = (
        UniqueConstraint("provider", "provider_invoice_id"),
        Index("ix_invoices_issued", "provider", "issued_at"),
    )

    organization_id: Mapped[uuid.UUID] = _organization()
    subscription_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("subscriptions.id", ondelete="SET NULL"))
    provider: Mapped[str]
    provider_invoice_id: Mapped[str]
    provider_charge_id: Mapped[str | None]
    number: Mapped[str | None]
    status: Mapped[str]
    currency: Mapped[str]
    amount_due_minor: Mapped[int]
    amount_paid_minor: Mapped[int] = mapped_column(server_default=text("0"))
    amount_refunded_minor: Mapped[int] = mapped_column(server_default=text("0"))
    issued_at: Mapped[datetime] = mapped_column(server_default=now())
    due_at: Mapped[datetime | None]
    paid_at: Mapped[datetime | None]


class PaymentMethod(_WithId, _WithUpdate, Base):
    """How an organization pays. No card number: the provider keeps it."""

    __tablename__ = "payment_methods"
    __table_args__ = (UniqueConstraint("provider", "provider_payment_method_id"),)

    organization_id: Mapped[uuid.UUID] = _organization()
    provider: Mapped[str]
    provider_payment_method_id: Mapped[str]
    kind: Mapped[str]
    brand: Mapped[str | None]
    last4: Mapped[str | None]
    exp_month: Mapped[int | None]
    exp_year: Mapped[int | None]
    is_default: Mapped[bool] = mapped_column(server_default=text("false"))
    holder_name: Mapped[str | None] = mapped_column(Encrypted("payment_methods.holder_name"))
    holder_email: Mapped[str | None] = mapped_column(Encrypted("payment_methods.holder_email"))


class AuditLog(_WithId, _WithCreation, Base):
    """Who did what. Rows are added, never changed."""

    __tablename__ = "audit_logs"
    __table_args__ = (Index("ix_audit_logs_created", "created_at"),)

    organization_id: Mapped[uuid.UUID | None] = _organization(nullable=True)
    actor: Mapped[str]
    """A user's id, or the name of a program or operator."""
    action: Mapped[str]
    resource_type: Mapped[str | None]
    resource_id: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    ip_address: Mapped[str | None] = mapped_column(Encrypted("audit_logs.ip_address"))
    request_id: Mapped[str | None]


class AiOperationLog(_WithId, _WithCreation, Base):
    """One call of an AI provider, and what it cost."""

    __tablename__ = "ai_operation_logs"
    __table_args__ = (Index("ix_ai_operation_logs_created", "created_at"),)

    organization_id: Mapped[uuid.UUID | None] = _organization(nullable=True)
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


class SecurityEvent(_WithId, _WithCreation, Base):
    """Something that a guard should look at: a forged webhook, a failed login, a mass export."""

    __tablename__ = "security_events"
    __table_args__ = (Index("ix_security_events_created", "created_at"),)

    organization_id: Mapped[uuid.UUID | None] = _organization(nullable=True)
    user_id: Mapped[uuid.UUID | None]
    kind: Mapped[str]
    severity: Mapped[str]
    """info, warning or critical."""
    source: Mapped[str | None]
    """What noticed it, e.g. ``webhooks.stripe``."""
    ip_address: Mapped[str | None] = mapped_column(Encrypted("security_events.ip_address"))
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


# Fourlane's own -------------------------------------------------------------------------------------------------


class JobOutbox(_WithCreation, Base):
    """A job that exists exactly when the transaction that wrote it commits (fourlane/outbox.py)."""

    __tablename__ = "job_outbox"
    __table_args__ = (
        Index(
            "ix_job_outbox_pending",
            "position",
            postgresql_where=text("relayed_at IS NULL AND failed_at IS NULL"),
            sqlite_where=text("relayed_at IS NULL AND failed_at IS NULL"),
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
    """Rows of one key reach Redis in the order of their positions."""
    organization_id: Mapped[uuid.UUID | None]
    """On whose behalf; no foreign key, so that a job survives the organization that it cleans up after."""
    created_by: Mapped[uuid.UUID | None]
    relayed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    error: Mapped[str | None]


class OutboxTask(_WithCreation, Base):
    """A task that members of organizations may enqueue through the database. All others may only be by programs."""

    __tablename__ = "outbox_tasks"

    task: Mapped[str] = mapped_column(primary_key=True)
    service: Mapped[str] = mapped_column(server_default=text("'default'"))
    tier: Mapped[int] = mapped_column(Integer, server_default=text("1"))


class WebhookEndpoint(_WithId, _WithUpdate, Base):
    """Where an organization wants its events delivered."""

    __tablename__ = "webhook_endpoints"

    organization_id: Mapped[uuid.UUID | None] = _organization(nullable=True)
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
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None]


class WebhookDelivery(_WithId, _WithUpdate, Base):
    """One event for one endpoint, with the last attempt's request, response and latency."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "event_id"),
        Index("ix_webhook_deliveries_created", "created_at"),
        Index("ix_webhook_deliveries_status", "endpoint_id", "status", "created_at"),
    )

    endpoint_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    organization_id: Mapped[uuid.UUID | None] = _organization(nullable=True)
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


class ReconciliationRun(_WithId, _WithUpdate, Base):
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


class ReconciliationFinding(_WithId, _WithCreation, Base):
    """One difference between a provider's books and ours."""

    __tablename__ = "reconciliation_findings"

    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("reconciliation_runs.id", ondelete="CASCADE"), index=True)
    last_run_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("reconciliation_runs.id", ondelete="SET NULL"))
    """The last run that still saw it."""
    organization_id: Mapped[uuid.UUID | None] = _organization(nullable=True)
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


class NotificationRecord(_WithId, _WithUpdate, Base):
    """One message to one person."""

    __tablename__ = "notification_records"
    __table_args__ = (Index("ix_notification_records_created", "created_at"),)

    organization_id: Mapped[uuid.UUID | None] = _organization(nullable=True)
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
    error: Mapped[str | None]
    sent_at: Mapped[datetime | None]


class NotificationPreference(_WithId, _WithUpdate, Base):
    """Whether a person wants messages of a category on a channel, and when not."""

    __tablename__ = "notification_preferences"
    __table_args__ = (UniqueConstraint("user_id", "channel", "category"),)

    organization_id: Mapped[uuid.UUID | None] = _organization(nullable=True)
    user_id: Mapped[uuid.UUID]
    channel: Mapped[str]
    category: Mapped[str] = mapped_column(server_default=text("'*'"))
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    quiet_from: Mapped[str | None]
    """HH:MM in ``time_zone``."""
    quiet_until: Mapped[str | None]
    time_zone: Mapped[str] = mapped_column(server_default=text("'UTC'"))


class NotificationDigestItem(_WithId, _WithCreation, Base):
    """A notification that waits to be sent together with others."""

    __tablename__ = "notification_digest_items"

    record_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("notification_records.id", ondelete="CASCADE"), index=True)
    """The one message that they become."""
    item_key: Mapped[str] = mapped_column(unique=True)
    data: Mapped[str] = mapped_column(Encrypted("notification_digest_items.data"))
    """The template's variables, as JSON."""


class NotificationSuppression(_WithId, _WithCreation, Base):
    """An address that is not written to any more."""

    __tablename__ = "notification_suppressions"
    __table_args__ = (UniqueConstraint("channel", "address_mark", "category"),)

    channel: Mapped[str]
    address_mark: Mapped[str]
    """By which the address is found (``Keyring.marks``)."""
    address: Mapped[str] = mapped_column(Encrypted("notification_suppressions.address"))
    category: Mapped[str] = mapped_column(server_default=text("'*'"))
    reason: Mapped[str]
    """bounce, complaint or unsubscribed."""
    detail: Mapped[str | None]


class ApiKey(_WithId, _WithCreation, Base):
    """A key of a server that calls us. Only its hash is kept."""

    __tablename__ = "api_keys"

    organization_id: Mapped[uuid.UUID | None] = _organization(nullable=True)
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
