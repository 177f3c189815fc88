"""What organizations buy, owe and have paid."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from fourlane.db.columns import Encrypted
from fourlane.db.models.base import Base, WithCreation, WithId, WithUpdate, now, organization

__all__ = ["CreditAccount", "CreditTransaction", "Invoice", "PaymentMethod", "Subscription"]


class CreditAccount(WithId, WithUpdate, Base):
    """An organization's credits, as a whole number."""

    __tablename__ = "credit_accounts"

    organization_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organizations.id", ondelete="CASCADE"), unique=True)
    balance: Mapped[int] = mapped_column(server_default=text("0"))


class CreditTransaction(WithId, WithCreation, Base):
    """One booking of credits, and the payment or refund behind it where there is one."""

    __tablename__ = "credit_transactions"
    __table_args__ = (
        UniqueConstraint("provider", "provider_transaction_id"),
        Index("ix_credit_transactions_occurred", "provider", "occurred_at"),
    )

    organization_id: Mapped[uuid.UUID] = organization()
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


class Subscription(WithId, WithUpdate, Base):
    """A subscription at a provider."""

    __tablename__ = "subscriptions"
    __table_args__ = (UniqueConstraint("provider", "provider_subscription_id"),)

    organization_id: Mapped[uuid.UUID] = organization()
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


class Invoice(WithId, WithUpdate, Base):
    """An invoice, and what became of it."""

    __tablename__ = "invoices"
    __table_args__ = (
        UniqueConstraint("provider", "provider_invoice_id"),
        Index("ix_invoices_issued", "provider", "issued_at"),
    )

    organization_id: Mapped[uuid.UUID] = organization()
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


class PaymentMethod(WithId, WithUpdate, Base):
    """How an organization pays. No card number: the provider keeps it."""

    __tablename__ = "payment_methods"
    __table_args__ = (UniqueConstraint("provider", "provider_payment_method_id"),)

    organization_id: Mapped[uuid.UUID] = organization()
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
