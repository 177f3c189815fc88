"""Signed webhooks are received and booked, each booking goes out through the outbox, then the books are compared.

``python -m examples.deliveries`` runs it at its end. Everything is on this machine: a stand-in plays Stripe.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import stripe
from sqlalchemy import func, select, update

from examples.billing.standins import Stripe
from fourlane import app
from fourlane.config import load_settings
from fourlane.db import migrate
from fourlane.db.engine import Database
from fourlane.db.models import (
    CreditAccount,
    CreditTransaction,
    Organization,
    SecurityEvent,
    WebhookDelivery,
    WebhookEndpoint,
)

__all__ = ["prepare", "run"]

SECRET = "whsec_demo_of_the_receiving_endpoint"
CHARGES, REPEATED, FORGED = 60, 15, 5
PATIENCE_SECONDS = 60


def prepare(folder: Path, endpoint_url: str, endpoint_secret: str) -> None:
    """Set what this process and the worker share: a new database with an organization and an endpoint in it."""
    os.environ |= {
        "DATABASE_URL": f"sqlite:///{folder}/demo.db",
        "STRIPE_SECRET_KEY": Stripe.key,
        "FOURLANE_STRIPE_WEBHOOK_SECRETS": SECRET,
    }
    database = app.open_database(load_settings())
    migrate.migrate(database)
    organization = uuid.uuid4()
    with database.begin() as session:
        session.add(Organization(id=organization, name="Demo", stripe_customer_id="cus_1"))
        session.flush()
        session.add(CreditAccount(id=uuid.uuid4(), organization_id=organization))
        session.add(
            WebhookEndpoint(
                id=uuid.uuid4(),
                organization_id=organization,
                url=endpoint_url,
                secret=endpoint_secret,
                event_types=["credits.*"],
            )
        )
    database.close()


def run() -> bool:
    """Show it. True when all came out as it must."""
    database = app.open_database(load_settings())
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    with Stripe() as standin, _endpoint() as port:
        for number in range(CHARGES):
            amount, currency = [(1999, "usd"), (500, "jpy"), (12340, "kwd"), (70000, "isk")][number % 4]
            standin.charge(f"ch_{number:03}", amount, day + timedelta(minutes=20 * number), currency)
        statuses = _post_all(port, standin.lists["charges"])
        booked = _wait(database, CHARGES)
        print(
            f"\nreceived {sum(statuses.values())} webhooks: {statuses[200]} taken, of them {REPEATED} repeated, "
            f"{statuses[401]} forged and refused; booked {booked['booked']}, told {booked['delivered']} times "
            "through the outbox"
        )
        planted = _plant(database, standin, day)
        found = _reconcile(standin.url)
    print(f"reconciliation: planted {len(planted)} differences, found {len(found)}")
    for kind, ref in sorted(planted | found):
        mark = "found" if (kind, ref) in planted & found else "MISSED" if (kind, ref) in planted else "NOT PLANTED"
        print(f"  {kind:<14} {ref:<10} {mark}")
    with database.begin() as session:
        refusals = session.scalar(select(func.count()).select_from(SecurityEvent))
    database.close()
    return (
        statuses == {200: CHARGES + REPEATED, 401: FORGED}
        and booked == {"booked": CHARGES, "delivered": CHARGES}
        and refusals == FORGED
        and planted == found
    )


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _endpoint() -> Iterator[int]:
    """The receiving endpoint; behind gunicorn or the like it would be the same function."""
    from fourlane.webhooks.wsgi import from_settings

    server = make_server("127.0.0.1", 0, from_settings(), handler_class=_Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _post_all(port: int, charges: list[dict[str, Any]]) -> Counter[int]:
    """Deliver as Stripe would on a bad day: out of order, some twice, and somebody forges."""
    rng = random.Random(1)
    run = uuid.uuid4().hex[:8]  # an event is handled once: those of an earlier run in this data folder are remembered
    events = [
        json.dumps(
            {
                "id": f"evt_{run}_{charge['id']}",
                "type": "charge.succeeded",
                "created": charge["created"],
                "data": {"object": charge},
            }
        )
        for charge in charges
    ]
    requests = [(event, SECRET) for event in [*events, *rng.sample(events, REPEATED)]]
    requests += [(event, "whsec_guessed") for event in rng.sample(events, FORGED)]
    rng.shuffle(requests)
    statuses: Counter[int] = Counter()
    for event, secret in requests:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        signature = stripe.WebhookSignature.generate_signature_header(event, secret)
        connection.request("POST", "/api/webhooks/stripe", event, {"Stripe-Signature": signature})
        statuses[connection.getresponse().status] += 1
        connection.close()
    return statuses


def _wait(database: Database, number: int) -> dict[str, int]:
    """Until the worker has booked all, and told of all."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        with database.begin() as session:
            booked = session.scalar(select(func.count()).select_from(CreditTransaction)) or 0
            delivered = session.scalar(
                select(func.count()).select_from(WebhookDelivery).where(WebhookDelivery.status == "delivered")
            )
        if (booked, delivered) == (number, number) or time.monotonic() > deadline:
            return {"booked": booked, "delivered": delivered or 0}
        time.sleep(0.1)


def _plant(database: Database, standin: Stripe, day: datetime) -> set[tuple[str, str]]:
    """Make the two books differ in eight ways."""
    noon = day + timedelta(hours=12)
    standin.charge("ch_unheard", 4900, noon)  # its webhook never came
    standin.refund("re_orphan", "ch_of_old", 500, noon)
    standin.charge("ch_again", 1999, noon, payment_intent="pi_000")  # the customer paid twice
    with database.begin() as session:
        account = session.scalars(select(CreditAccount)).one()

        def book(ref: str, when: datetime) -> None:
            session.add(
                CreditTransaction(
                    id=uuid.uuid4(),
                    organization_id=account.organization_id,
                    credit_account_id=account.id,
                    kind="purchase",
                    credits=100,
                    amount_minor=1999,
                    currency="USD",
                    provider="stripe",
                    provider_transaction_id=ref,
                    occurred_at=when,
                )
            )

        book("ch_invented", noon)
        book("ch_again", noon)
        changes: list[tuple[str, dict[str, Any]]] = [
            ("ch_001", {"amount_minor": 50_000}),  # yen taken for cents
            ("ch_004", {"currency": "EUR"}),
            ("ch_008", {"status": "pending"}),
            ("ch_059", {"occurred_at": day + timedelta(days=1, seconds=2)}),
        ]
        for ref, values in changes:
            row = CreditTransaction.provider_transaction_id == ref
            session.execute(update(CreditTransaction).where(row).values(**values))
    return {
        ("missing_here", "ch_unheard"),
        ("missing_there", "ch_invented"),
        ("orphan_refund", "re_orphan"),
        ("duplicate", "ch_again"),
        ("amount", "ch_001"),
        ("currency", "ch_004"),
        ("status", "ch_008"),
        ("late", "ch_059"),
    }


def _reconcile(url: str) -> set[tuple[str, str]]:
    """By the command, as an operator would; yesterday is its default period."""
    command = [sys.executable, "-m", "fourlane.cli", "billing", "reconcile", "--provider", "stripe", "--json"]
    done = subprocess.run(command, env=os.environ | {"FOURLANE_STRIPE_URL": url}, capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        return set()
    return {(row["kind"], row["provider_id"]) for row in json.loads(done.stdout)["findings"]}
