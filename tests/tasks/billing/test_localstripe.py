"""The books of a Stripe that somebody else wrote, by the real SDK over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx

from fourlane.providers.payments import Period
from fourlane.providers.stripe import StripeBooks
from fourlane.tasks.billing.reconciliation import reconcile_period
from tests.http_server import Reply, Request, serving
from tests.localstripe import KEY, Localstripe, localstripe
from tests.tasks.billing.conftest import Ours


def test_a_reconciliation_with_localstripe(lite: Ours) -> None:
    with localstripe() as server, serving(lambda request: _pass_on(server, request)) as url:
        customer = server.post("v1/customers", {"email": "a@b.c"})["id"]
        card = {
            "card[number]": "4242424242424242",
            "card[exp_month]": "12",
            "card[exp_year]": "2030",
            "card[cvc]": "123",
        }
        method = server.post("v1/payment_methods", {"type": "card"} | card)["id"]
        server.post(f"v1/payment_methods/{method}/attach", {"customer": customer})
        server.post(f"v1/customers/{customer}", {"invoice_settings[default_payment_method]": method})
        charges = [_pay(server, customer, method, amount) for amount in ("1999", "500", "700", "900")]
        refund = server.post("v1/refunds", {"payment_intent": charges[0]["payment_intent"], "amount": "250"})
        plan = server.post(
            "v1/plans", {"currency": "usd", "interval": "month", "amount": "900", "product[name]": "Pro"}
        )
        subscription = server.post(
            "v1/subscriptions", {"customer": customer, "items[0][plan]": plan["id"], "items[0][quantity]": "2"}
        )

        now = datetime.now(UTC)
        lite.payment(charges[0]["id"], 1999, now)
        lite.payment(charges[1]["payment_intent"], 501, now)  # a cent too much
        lite.payment(charges[2]["id"], 700, now)  # and the fourth is missing
        lite.payment(refund["id"], -250, now, kind="refund")
        lite.subscription(subscription["id"], 1800, now, "past_due")
        lite.payment("ch_invented", 1, now)

        books = StripeBooks(KEY, base_url=url)
        reconcile_period(lite.database, books, Period(now - timedelta(hours=1), now + timedelta(hours=1)))
        books.close()
        invoice = server_invoice(server)
        paid = next(row for row in _list(server, "charges") if row["amount"] == 1800)["id"]  # the subscription's own
    assert lite.findings() == sorted(
        [
            ("amount", charges[1]["id"]),
            ("missing_here", charges[3]["id"]),
            ("missing_here", invoice),
            ("missing_here", paid),
            ("missing_there", "ch_invented"),
            ("status", subscription["id"]),
        ]
    )


def _pay(server: Localstripe, customer: str, method: str, amount: str) -> dict[str, str]:
    intent = server.post(
        "v1/payment_intents",
        {"amount": amount, "currency": "usd", "customer": customer, "payment_method": method, "confirm": "true"},
    )
    charge: dict[str, str] = intent["latest_charge"]
    return charge


def _list(server: Localstripe, name: str) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = httpx.get(f"{server.url}/v1/{name}", auth=(KEY, "")).json()["data"]
    return rows


def server_invoice(server: Localstripe) -> str:
    [invoice] = _list(server, "invoices")
    return invoice["id"]


def _pass_on(server: Localstripe, request: Request) -> Reply:
    """localstripe knows neither ``created`` nor all of ``status``: they are taken off; and no payments of invoices."""
    parts = urlsplit(request.path)
    if parts.path == "/v1/invoice_payments":
        return Reply(200, b'{"object": "list", "data": [], "has_more": false}')
    query = [(name, value) for name, value in parse_qsl(parts.query) if not name.startswith(("created", "status"))]
    answer = httpx.get(
        f"{server.url}{parts.path}?{urlencode(query)}", headers={"authorization": request.headers["authorization"]}
    )
    return Reply(answer.status_code, answer.content)
