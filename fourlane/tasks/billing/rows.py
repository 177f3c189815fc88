"""Our rows that are compared with the provider's books: by the provider's ids, or page by page."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, null, or_, select
from sqlalchemy.orm import Session

from fourlane.db.models import CreditTransaction, Invoice, Subscription
from fourlane.providers.payments import Period
from fourlane.tasks.billing.differences import Ours

__all__ = ["ROWS", "SHAPES", "by_refs", "page", "tables_of"]

ROWS: Final = 500
"""Rows of a page."""
_TABLES: Final = {"paypal": ("credit_transactions",)}


def tables_of(provider: str) -> tuple[str, ...]:
    """Those that have anything of a provider."""
    return _TABLES.get(provider, tuple(SHAPES))


def by_refs(session: Session, provider: str, table: str, refs: Iterable[str]) -> dict[str, list[Ours]]:
    """Our rows by the provider's ids."""
    found: dict[str, list[Ours]] = {}
    if wanted := set(refs):
        shape = SHAPES[table]
        query = shape.query.where(shape.model.provider == provider, shape.ref.in_(wanted))
        for row in shape.read(session, query):
            found.setdefault(row.ref, []).append(row)
    return found


def page(
    session: Session, provider: str, table: str, period: Period, after: tuple[datetime, uuid.UUID] | None
) -> list[Ours]:
    """Our rows of a period, by time and id. Subscriptions live on: all that are older than its end."""
    shape = SHAPES[table]
    query = shape.query.where(shape.model.provider == provider, shape.at < period.end)
    if table != "subscriptions":
        query = query.where(shape.at >= period.start)
    if after is not None:
        query = query.where(shape.at >= after[0], or_(shape.at > after[0], shape.model.id > after[1]))
    return list(shape.read(session, query.order_by(shape.at, shape.model.id).limit(ROWS)))


class _Shape:
    """A table as far as it is compared: columns rather than objects, and past the ORM, for they are many."""

    def __init__(self, model: Any, ref: Any, amount: Any, paid: Any, at: Any) -> None:
        self.model, self.ref, self.at = model, ref, at
        self.table = model.__tablename__
        self.query = select(
            model.id,
            model.organization_id,
            func.coalesce(ref, "").label("ref"),
            amount.label("amount_minor"),
            paid.label("paid_minor"),
            model.currency,
            model.status,
            at.label("at"),
        )

    def read(self, session: Session, query: Any) -> Iterator[Ours]:
        for id, organization_id, ref, amount, paid, currency, status, at in session.connection().execute(query):
            yield Ours(
                table=self.table,
                id=id,
                organization_id=organization_id,
                ref=ref,
                amount_minor=amount,
                paid_minor=paid,
                currency=currency,
                status=status,
                at=at,
            )


SHAPES: Final = {
    "credit_transactions": _Shape(
        CreditTransaction,
        CreditTransaction.provider_transaction_id,
        CreditTransaction.amount_minor,
        null(),
        CreditTransaction.occurred_at,
    ),
    "invoices": _Shape(
        Invoice,
        Invoice.provider_invoice_id,
        Invoice.amount_due_minor,
        Invoice.amount_paid_minor,
        Invoice.issued_at,
    ),
    "subscriptions": _Shape(
        Subscription,
        Subscription.provider_subscription_id,
        Subscription.amount_minor,
        null(),
        Subscription.created_at,
    ),
}
