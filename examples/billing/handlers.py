"""What the worker does with Stripe's webhooks: book the payment and tell those who asked, in one transaction.

fourlane dev examples.billing.handlers
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from functools import cache

from sqlalchemy import select

from fourlane import app, money
from fourlane.config import load_settings
from fourlane.db.engine import Database
from fourlane.db.models import CreditAccount, CreditTransaction, Organization
from fourlane.tasks.webhooks import send_event
from fourlane.webhooks import Event, on_webhook


@cache
def database() -> Database:
    return app.open_database(load_settings())


@on_webhook("stripe", "charge.succeeded", tier="P0")
def book_charge(event: Event) -> None:
    """A job may run twice: the provider's id is looked up in the transaction that books it."""
    charge = event.payload["data"]["object"]
    with database().begin() as session:
        account = session.scalars(
            select(CreditAccount)
            .join(Organization, Organization.id == CreditAccount.organization_id)
            .where(Organization.stripe_customer_id == charge["customer"])
            .with_for_update()
        ).one()
        known = select(CreditTransaction.id).where(CreditTransaction.provider_transaction_id == charge["id"])
        if session.scalar(known) is not None:
            return
        account.balance += 100
        session.add(
            CreditTransaction(
                id=uuid.uuid4(),
                organization_id=account.organization_id,
                credit_account_id=account.id,
                kind="purchase",
                credits=100,
                amount_minor=money.from_stripe(charge["amount"], charge["currency"]),
                currency=charge["currency"].upper(),
                provider="stripe",
                provider_transaction_id=charge["id"],
                occurred_at=datetime.fromtimestamp(charge["created"], UTC),
            )
        )
        send_event(
            session,
            "credits.purchased",
            {"charge": charge["id"], "credits": 100},
            organization_id=account.organization_id,
            event_id=f"purchase_{charge['id']}",
        )
