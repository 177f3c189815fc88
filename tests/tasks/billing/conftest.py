"""Stand-ins for the providers, and books of ours in a migrated database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from examples.billing.standins import PayPal, Stripe
from fourlane.db.engine import Database, open_database
from fourlane.db.models import (
    CreditAccount,
    CreditTransaction,
    Invoice,
    Organization,
    ReconciliationFinding,
    Subscription,
)
from fourlane.providers import http, payments
from fourlane.providers.payments import Period
from fourlane.providers.paypal import PayPalApi, PayPalBooks
from fourlane.providers.stripe import StripeBooks
from tests.worker.conftest import run_worker as run_worker

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
JANUARY = Period(START, END)


def at(day: int, hour: int = 12, minute: int = 0, second: int = 0) -> datetime:
    """A moment of January 2026; day 0 is the day before, 32 the one after."""
    return datetime.fromtimestamp(START.timestamp() + (day - 1) * 86_400 + hour * 3600 + minute * 60 + second, UTC)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(payments, "RETRY_SECONDS", (0.001, 0.002, 0.004))
    yield
    http.close()


@dataclass
class Ours:
    """Our books."""

    database: Database
    organization: uuid.UUID
    account: uuid.UUID

    def add(self, *rows: Any) -> None:
        with self.database.begin() as session:
            session.add_all(rows)

    def payment(self, ref: str | None, amount: int | None, when: datetime, **more: Any) -> uuid.UUID:
        row = CreditTransaction(
            **{
                "id": uuid.uuid4(),
                "organization_id": self.organization,
                "credit_account_id": self.account,
                "kind": "purchase",
                "credits": 100,
                "amount_minor": amount,
                "currency": "USD",
                "provider": "stripe",
                "provider_transaction_id": ref,
                "status": "succeeded",
                "occurred_at": when,
            }
            | more
        )
        self.add(row)
        return row.id

    def invoice(self, ref: str, amount: int, when: datetime, status: str = "paid", **more: Any) -> uuid.UUID:
        row = Invoice(
            **{
                "id": uuid.uuid4(),
                "organization_id": self.organization,
                "provider": "stripe",
                "provider_invoice_id": ref,
                "status": status,
                "currency": "USD",
                "amount_due_minor": amount,
                "amount_paid_minor": amount if status == "paid" else 0,
                "issued_at": when,
            }
            | more
        )
        self.add(row)
        return row.id

    def subscription(self, ref: str, amount: int, when: datetime, status: str = "active", **more: Any) -> uuid.UUID:
        row = Subscription(
            **{
                "id": uuid.uuid4(),
                "organization_id": self.organization,
                "provider": "stripe",
                "provider_subscription_id": ref,
                "status": status,
                "amount_minor": amount,
                "currency": "USD",
                "created_at": when,
            }
            | more
        )
        self.add(row)
        return row.id

    def findings(self, *, resolved: bool = False) -> list[tuple[str, str]]:
        """Kind and the provider's id of what is open, in order."""
        with self.database.begin() as session:
            rows = session.scalars(select(ReconciliationFinding)).all()
        return sorted((row.kind, row.provider_id or "") for row in rows if (row.resolved_at is not None) is resolved)


def fill(database: Database) -> Ours:
    organization, account = uuid.uuid4(), uuid.uuid4()
    with database.begin() as session:
        session.add(Organization(id=organization, name="Acme", stripe_customer_id="cus_1"))
        session.flush()
        session.add(CreditAccount(id=account, organization_id=organization))
    return Ours(database, organization, account)


@pytest.fixture
def ours(migrated_url: str) -> Iterator[Ours]:
    """SQLite, then PostgreSQL."""
    database = open_database(migrated_url)
    yield fill(database)
    database.close()


@pytest.fixture
def lite(migrated_sqlite_url: str) -> Iterator[Ours]:
    """SQLite alone, for what does not depend on the database."""
    database = open_database(migrated_sqlite_url)
    yield fill(database)
    database.close()


@pytest.fixture
def stripe() -> Iterator[Stripe]:
    with Stripe() as standin:
        yield standin


@pytest.fixture
def paypal() -> Iterator[PayPal]:
    with PayPal() as standin:
        yield standin


@pytest.fixture
def stripe_books(stripe: Stripe) -> Iterator[StripeBooks]:
    books = StripeBooks(stripe.key, base_url=stripe.url, timeout_seconds=5)
    yield books
    books.close()


@pytest.fixture
def paypal_books(paypal: PayPal) -> PayPalBooks:
    return PayPalBooks(PayPalApi("id", "secret", base_url=paypal.url, timeout_seconds=5, allow_private=True))
