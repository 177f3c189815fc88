"""Planted differences of every kind, found exactly; nothing else found, nothing found twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from examples.billing.standins import PayPal, Reply, Stripe
from fourlane.db.models import (
    AuditLog,
    CreditTransaction,
    Invoice,
    ReconciliationFinding,
    ReconciliationRun,
    ReconciliationSeen,
    Subscription,
)
from fourlane.providers.payments import Period, ProviderError
from fourlane.providers.paypal import PayPalBooks
from fourlane.providers.stripe import StripeBooks
from fourlane.tasks.billing import repairs
from fourlane.tasks.billing.findings import findings
from fourlane.tasks.billing.reconciliation import InvalidPeriod, period_of, reconcile_period
from tests.tasks.billing.conftest import JANUARY, Ours, at


def plant_agreement(stripe: Stripe, ours: Ours, number: int = 250) -> None:
    """Books that agree: pages of everything, in several currencies."""
    for n in range(number):
        when = at(1 + n % 31, n % 24, n % 60)
        currency, amount, minor = [
            ("usd", 1999, 1999),
            ("jpy", 500, 500),  # no decimals
            ("kwd", 12340, 12340),  # three
            ("isk", 70000, 700),  # Stripe writes hundredths of what has none
        ][n % 4]
        stripe.charge(f"ch_{n:04}", amount, when, currency)
        ref = f"ch_{n:04}" if n % 2 else f"pi_{n:04}"  # our books may have either
        ours.payment(ref, minor, when, currency=currency.upper())
        if n % 10 == 0:
            stripe.refund(f"re_{n:04}", f"ch_{n:04}", amount, when + timedelta(minutes=5), currency)
            ours.payment(
                f"re_{n:04}",
                -minor,
                when + timedelta(minutes=5),
                currency=currency.upper(),
                kind="refund",
                credits=-100,
            )
    for n in range(number // 5):
        stripe.invoice(f"in_{n:04}", 4900, at(1 + n % 31))
        ours.invoice(f"in_{n:04}", 4900, at(1 + n % 31))
        stripe.subscription(f"sub_{n:04}", 4900, at(1 + n % 31))
        ours.subscription(f"sub_{n:04}", 4900, at(1 + n % 31))
    # What neither side needs to have of the other.
    stripe.charge("ch_failed", 100, at(5), status="failed")
    stripe.charge("ch_held", 100, at(5), captured=False, status="pending")
    stripe.invoice("in_draft", 100, at(5), "draft")
    stripe.subscription("sub_ended", 100, at(5), "canceled")
    stripe.balance("po_1", -90_000, at(5), "usd", "payout")
    ours.payment("ch_of_december", 100, at(0, 3))
    stripe.charge("ch_of_december", 100, at(0, 3))
    ours.payment(None, None, at(5), provider=None, kind="usage", credits=-3, currency=None)
    ours.payment("PAYPAL1", 100, at(5), provider="paypal")
    ours.payment("ch_tried", 100, at(5), status="failed")


def test_books_that_agree(ours: Ours, stripe: Stripe, stripe_books: StripeBooks) -> None:
    plant_agreement(stripe, ours)
    summary = reconcile_period(ours.database, stripe_books, JANUARY)
    assert (summary.found, ours.findings()) == ({}, [])
    assert summary.compared > 600
    assert not summary.resumed
    with ours.database.begin() as session:
        assert session.scalar(select(func.count()).select_from(ReconciliationSeen)) == 0  # nothing is left behind
        assert session.scalars(select(ReconciliationRun.status)).all() == ["done"]


def _pair(stripe: Stripe, ours: Ours, **theirs: Any) -> Callable[..., None]:
    def plant(**mine: Any) -> None:
        stripe.charge("ch_x", 1999, at(10), **theirs)
        ours.payment("ch_x", **({"amount": 1999, "when": at(10)} | mine))

    return plant


def dispute(stripe: Stripe) -> None:
    """Lost at first, then won."""
    stripe.balance("dp_x", -1999, at(10), "usd", "adjustment")
    stripe.balance("dp_x", 1999, at(20), "usd", "adjustment", id="txn_back")


def paid(stripe: Stripe, ours: Ours, *amounts: int) -> None:
    """An invoice over 100 of long ago, and what was paid of it."""
    stripe.invoice("in_x", 100, at(-100))
    for n, amount in enumerate(amounts):
        stripe.charge(f"ch_{n}", amount, at(10 + n), payment_intent=f"pi_{n}")
        stripe.paid("in_x", f"inpay_{n}", f"pi_{n}", amount, at(10 + n))
        ours.payment(f"pi_{n}", amount, at(10 + n))


PLANTS: dict[str, tuple[Callable[[Stripe, Ours], object], list[tuple[str, str]]]] = {
    "missing here": (lambda s, o: s.charge("ch_x", 1999, at(10)), [("missing_here", "ch_x")]),
    "missing here, refund": (
        lambda s, o: (_pair(s, o)(), s.refund("re_x", "ch_x", 5, at(11))),
        [("missing_here", "re_x")],
    ),
    "missing here, invoice": (lambda s, o: s.invoice("in_x", 100, at(10)), [("missing_here", "in_x")]),
    "missing here, subscription": (lambda s, o: s.subscription("sub_x", 1, at(10)), [("missing_here", "sub_x")]),
    "missing here, old subscription": (lambda s, o: s.subscription("sub_x", 1, at(-400)), [("missing_here", "sub_x")]),
    "missing here, a dispute": (
        lambda s, o: s.balance("dp_x", -1999, at(10), "usd", "adjustment"),
        [("missing_here", "dp_x")],
    ),
    "missing here, captured days later": (
        lambda s, o: s.balance("ch_x", 1999, at(10), "usd", "charge"),
        [("missing_here", "ch_x")],
    ),
    "amount, a dispute": (
        lambda s, o: (s.balance("dp_x", -1999, at(10), "usd", "adjustment"), o.payment("dp_x", -1998, at(10))),
        [("amount", "dp_x")],
    ),
    "amount, captured days later": (
        lambda s, o: (s.balance("ch_x", 800, at(10), "usd", "charge"), o.payment("ch_x", 1000, at(10))),
        [("amount", "ch_x")],
    ),
    "status, captured days later": (
        lambda s, o: (s.balance("ch_x", 9, at(10), "usd", "charge"), o.payment("ch_x", 9, at(10), status="pending")),
        [("status", "ch_x")],
    ),
    "missing here, what a won dispute brought back": (
        lambda s, o: (dispute(s), o.payment("dp_x", -1999, at(10), status="lost")),
        [("missing_here", "txn_back")],
    ),
    "a won dispute, by its status": (lambda s, o: (dispute(s), o.payment("dp_x", -1999, at(10), status="won")), []),
    "a won dispute, by a row": (
        lambda s, o: (dispute(s), o.payment("dp_x", -1999, at(10)), o.payment("txn_back", 1999, at(20))),
        [],
    ),
    "amount, of a won dispute": (
        lambda s, o: (dispute(s), o.payment("dp_x", -1999, at(10)), o.payment("txn_back", 999, at(20))),
        [("amount", "txn_back")],
    ),
    "an invoice paid in parts": (lambda s, o: paid(s, o, 40, 60), []),
    "duplicate, an invoice paid again": (lambda s, o: paid(s, o, 100, 100), [("duplicate", "pi_1")]),
    "missing there": (lambda s, o: o.payment("ch_x", 1999, at(10)), [("missing_there", "ch_x")]),
    "missing there, invoice": (lambda s, o: o.invoice("in_x", 1999, at(10)), [("missing_there", "in_x")]),
    "missing there, subscription": (lambda s, o: o.subscription("sub_x", 1, at(10)), [("missing_there", "sub_x")]),
    "missing there, without an id": (lambda s, o: o.payment(None, 1999, at(10)), [("missing_there", "")]),
    "amount": (lambda s, o: _pair(s, o)(amount=1998), [("amount", "ch_x")]),
    "amount, a hundredfold yen": (
        lambda s, o: _pair(s, o, currency="jpy")(amount=199_900, currency="JPY"),
        [("amount", "ch_x")],
    ),
    "amount, none here": (lambda s, o: _pair(s, o)(amount=None), [("amount", "ch_x")]),
    "amount, captured in part": (lambda s, o: _pair(s, o, amount_captured=500)(), [("amount", "ch_x")]),
    "amount, paid in part": (
        lambda s, o: (s.invoice("in_x", 9, at(10), amount_paid=4), o.invoice("in_x", 9, at(10))),
        [("amount", "in_x")],
    ),
    "amount, of the balance": (
        lambda s, o: (_pair(s, o)(), s.lists["balance_transactions"][-1].update(amount=1990)),
        [("amount", "ch_x")],
    ),
    "currency": (lambda s, o: _pair(s, o)(currency="EUR"), [("currency", "ch_x")]),
    "status": (lambda s, o: _pair(s, o, status="failed")(), [("status", "ch_x")]),
    "status, invoice": (
        lambda s, o: (s.invoice("in_x", 9, at(10), "open"), o.invoice("in_x", 9, at(10), "void")),
        [("status", "in_x")],
    ),
    "status, subscription": (
        lambda s, o: (s.subscription("sub_x", 9, at(10), "canceled"), o.subscription("sub_x", 9, at(10))),
        [("status", "sub_x")],
    ),
    "duplicate here": (
        lambda s, o: (_pair(s, o)(), o.payment("pi_x", 1999, at(10))),
        [("duplicate", "ch_x")],
    ),
    "duplicate there": (
        lambda s, o: (
            _pair(s, o)(),
            s.charge("ch_y", 1999, at(10, 13), payment_intent="pi_x"),
            o.payment("ch_y", 1999, at(10, 13)),
        ),
        [("duplicate", "ch_y")],
    ),
    "orphan refund": (lambda s, o: s.refund("re_x", "ch_gone", 5, at(10)), [("orphan_refund", "re_x")]),
    "orphan refund, booked": (
        lambda s, o: (s.refund("re_x", "ch_gone", 5, at(10)), o.payment("re_x", 5, at(10), kind="refund")),
        [("orphan_refund", "re_x")],
    ),
    "late, in the next month": (lambda s, o: _pair(s, o)(when=at(40)), [("late", "ch_x")]),
    "late, of the month before": (
        lambda s, o: (s.charge("ch_x", 1999, at(0, 23, 59, 59)), o.payment("ch_x", 1999, at(1, 0, 0, 2))),
        [("late", "ch_x")],
    ),
    "unknown currency": (
        lambda s, o: (s.charge("ch_x", 5, at(10), "xxz"), o.payment("ch_x", 5, at(10), currency="XXZ")),
        [("unknown_currency", "ch_x")],
    ),
    "two of them": (
        lambda s, o: _pair(s, o)(amount=1, status="pending"),
        [("amount", "ch_x"), ("status", "ch_x")],
    ),
    "in another currency's balance": (
        lambda s, o: (
            _pair(s, o, currency="eur")(currency="EUR"),
            s.lists["balance_transactions"][-1].update(amount=2100, currency="usd"),
        ),
        [],
    ),
    "canceled with two l": (
        lambda s, o: (s.subscription("sub_x", 9, at(10), "canceled"), o.subscription("sub_x", 9, at(10), "cancelled")),
        [],
    ),
    "the first second": (
        lambda s, o: (s.charge("ch_x", 9, at(1, 0)), o.payment("ch_x", 9, at(1, 0))),
        [],
    ),
    "the second after the last": (lambda s, o: s.charge("ch_x", 9, at(32, 0)), []),
    "the last second": (lambda s, o: s.charge("ch_x", 9, at(31, 23, 59, 59)), [("missing_here", "ch_x")]),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_difference_is_found_exactly(
    lite: Ours, stripe: Stripe, stripe_books: StripeBooks, name: str
) -> None:
    plant, expected = PLANTS[name]
    plant_agreement(stripe, lite, 8)
    plant(stripe, lite)
    for _ in range(2):  # a second run of the same period makes no double finding
        summary = reconcile_period(lite.database, stripe_books, JANUARY)
        assert lite.findings() == expected
        assert sum(summary.found.values()) == len(expected)


def test_all_differences_at_once_and_what_they_carry(ours: Ours, stripe: Stripe, stripe_books: StripeBooks) -> None:
    plant_agreement(stripe, ours, 120)
    stripe.charge("ch_a", 1999, at(3))
    ours.payment("ch_b", 500, at(4))
    stripe.charge("ch_c", 700, at(5))
    mine = ours.payment("ch_c", 750, at(5))
    stripe.refund("re_d", "ch_never", 5, at(6))
    summary = reconcile_period(ours.database, stripe_books, JANUARY)
    assert summary.found == {"amount": 1, "missing_here": 1, "missing_there": 1, "orphan_refund": 1}
    with ours.database.begin() as session:
        row = session.scalars(select(ReconciliationFinding).where(ReconciliationFinding.kind == "amount")).one()
    assert (row.provider_id, row.our_table, row.our_id) == ("ch_c", "credit_transactions", mine)
    assert (row.provider_amount_minor, row.our_amount_minor) == (700, 750)
    assert (row.provider_currency, row.our_currency, row.provider_status) == ("USD", "USD", "succeeded")
    assert (row.occurred_at, row.organization_id) == (at(5), ours.organization)
    assert "1 amount, 1 missing_here" in summary.text()


def test_what_was_put_right_is_resolved_and_may_come_back(
    lite: Ours, stripe: Stripe, stripe_books: StripeBooks
) -> None:
    stripe.charge("ch_x", 1999, at(10))
    stripe.subscription("sub_x", 1, at(-200))
    reconcile_period(lite.database, stripe_books, JANUARY)
    assert lite.findings() == [("missing_here", "ch_x"), ("missing_here", "sub_x")]
    row = lite.payment("ch_x", 1999, at(10))
    lite.subscription("sub_x", 1, at(-200))
    reconcile_period(lite.database, stripe_books, JANUARY)
    assert lite.findings() == []
    assert lite.findings(resolved=True) == [("missing_here", "ch_x"), ("missing_here", "sub_x")]
    with lite.database.begin() as session:
        session.delete(session.get_one(CreditTransaction, row))
    reconcile_period(lite.database, stripe_books, JANUARY)
    assert lite.findings() == [("missing_here", "ch_x")]


def test_neighbouring_periods_find_a_late_one_once(lite: Ours, stripe: Stripe, stripe_books: StripeBooks) -> None:
    stripe.charge("ch_x", 1999, at(31, 23, 59, 59))
    lite.payment("ch_x", 1999, at(32, 0, 0, 1))
    february = Period(JANUARY.end, JANUARY.end + timedelta(days=28))
    for period in (JANUARY, february, JANUARY):
        reconcile_period(lite.database, stripe_books, period)
        assert lite.findings() == [("late", "ch_x")]


# --- Stripe Connect and orders ---------------------------------------------------------------------


@pytest.fixture
def connected(stripe: Stripe) -> Iterator[StripeBooks]:
    """The books of the key's own account and of one that is connected to it."""
    books = StripeBooks(stripe.key, accounts=["own", "acct_1"], order_key="order_id", base_url=stripe.url)
    yield books
    books.close()


def test_books_of_several_accounts(lite: Ours, stripe: Stripe, connected: StripeBooks) -> None:
    for account in ("", "acct_1", "acct_2"):
        stripe.account = account
        for kind in ("booked", "new"):
            stripe.charge(f"ch_{kind}_{account}", 1999, at(10))
        lite.payment(f"ch_booked_{account}", 1999, at(10))
    summary = reconcile_period(lite.database, connected, JANUARY)
    assert lite.findings() == [
        ("missing_here", "ch_new_"),
        ("missing_here", "ch_new_acct_1"),
        ("missing_there", "ch_booked_acct_2"),  # nobody asked for its books
    ]
    [of] = [row for row in findings(lite.database, summary.run_id) if row.provider_id == "ch_new_acct_1"]
    assert of.details["account"] == "acct_1"


def test_a_run_in_an_account_that_is_no_longer_asked_begins_anew(
    lite: Ours, stripe: Stripe, stripe_books: StripeBooks, connected: StripeBooks
) -> None:
    stripe.charge("ch_x", 1999, at(10))
    of_own = len(stripe_books.parts)
    stripe.on_request = lambda number: stripe.faults.append(Reply(403)) if number == of_own + 2 else None
    with pytest.raises(ProviderError):
        reconcile_period(lite.database, connected, JANUARY)
    stripe.on_request = None
    summary = reconcile_period(lite.database, stripe_books, JANUARY)
    assert (summary.resumed, lite.findings()) == (False, [("missing_here", "ch_x")])
    with lite.database.begin() as session:
        assert session.scalar(select(func.count()).select_from(ReconciliationSeen)) == 0


def test_two_charges_for_one_order(lite: Ours, stripe: Stripe, connected: StripeBooks) -> None:
    for n, order in enumerate(["A1", "A1", "A2", "", ""]):
        stripe.charge(f"ch_{n}", 1999, at(10 + n), metadata={"order_id": order} if order else {})
        lite.payment(f"ch_{n}", 1999, at(10 + n))
    stripe.charge("ch_tried", 1999, at(20), status="failed", metadata={"order_id": "A2"})
    reconcile_period(lite.database, connected, JANUARY)
    assert lite.findings() == [("duplicate", "ch_1")]


# --- PayPal ----------------------------------------------------------------------------------------


def test_paypals_books(ours: Ours, paypal: PayPal, paypal_books: PayPalBooks) -> None:
    """Over several windows and pages, with each kind of difference."""
    paypal.most = 40  # windows are halved
    mine = {"provider": "paypal"}
    for n in range(180):
        when = at(1 + n // 2, n % 24, 7)
        currency, value, minor = [("USD", "19.99", 1999), ("JPY", "500", 500), ("JOD", "1.250", 1250)][n % 3]
        paypal.transaction(f"T{n:016}", value, when, currency)
        ours.payment(f"T{n:016}", minor, when, currency=currency, **mine)
    paypal.transaction(
        "REFUND1", "-19.99", at(40), code="T1107", paypal_reference_id="T0", paypal_reference_id_type="TXN"
    )
    paypal.transaction("BANK", "-900.00", at(40), code="T0403")  # not in our books
    paypal.transaction("DENIED", "9.00", at(40), transaction_status="D")
    paypal.transaction("MISSING", "9.00", at(41))
    paypal.transaction("DOUBLE1", "9.00", at(42), invoice_id="INV-7")
    paypal.transaction("DOUBLE2", "9.00", at(42, 13), invoice_id="INV-7")
    paypal.transaction("ODD", "9.005", at(43))
    for ref in ("DOUBLE1", "DOUBLE2", "ODD"):
        ours.payment(ref, 900, at(43 if ref == "ODD" else 42), **mine)
    ours.payment("NOTTHERE", 5, at(44), **mine)
    summary = reconcile_period(ours.database, paypal_books, Period(at(1, 0), at(95)))
    assert ours.findings() == [
        ("duplicate", "DOUBLE2"),
        ("missing_here", "MISSING"),
        ("missing_there", "NOTTHERE"),
        ("orphan_refund", "REFUND1"),
    ]
    assert summary.compared == 186  # each once, although windows touch
    assert any("RESULTSET" not in path for path in paypal.requests)


def test_a_window_that_ends_in_the_middle_of_a_second(lite: Ours, paypal: PayPal, paypal_books: PayPalBooks) -> None:
    paypal.most = 3
    for n in range(60):
        paypal.transaction(f"T{n}", "1.00", at(1, 0, 0, n))
    summary = reconcile_period(lite.database, paypal_books, Period(at(1, 0), at(1, 0, 1)), margin=timedelta(0))
    assert (summary.compared, summary.found) == (60, {"missing_here": 60})


# --- Repairs ---------------------------------------------------------------------------------------


def test_safe_repairs_with_an_audit_row_each(ours: Ours, stripe: Stripe, stripe_books: StripeBooks) -> None:
    stripe.invoice("in_paid", 4900, at(10))
    invoice = ours.invoice("in_paid", 4900, at(10), "open")
    stripe.subscription("sub_x", 9, at(1), "canceled", canceled_at=int(at(9).timestamp()))
    subscription = ours.subscription("sub_x", 9, at(10))
    stripe.invoice("in_new", 700, at(11))
    stripe.invoice("in_strange", 700, at(11), customer="cus_nobody")
    stripe.charge("ch_money", 1999, at(12))  # credits are at stake: never by a program
    reconcile_period(ours.database, stripe_books, JANUARY)
    summary = reconcile_period(ours.database, stripe_books, JANUARY)
    planned = [row for row in findings(ours.database, summary.run_id) if repairs.repair_of(row)]
    assert sorted(row.provider_id or "" for row in planned) == ["in_new", "in_paid", "in_strange", "sub_x"]
    with ours.database.begin() as session:
        assert session.get_one(Invoice, invoice).status == "open"  # a plan changes nothing

    done = {row.provider_id: repairs.repair(ours.database, row, actor="ops", now=at(20)) for row in planned}
    assert done == {"in_new": True, "in_paid": True, "in_strange": False, "sub_x": True}
    with ours.database.begin() as session:
        paid = session.get_one(Invoice, invoice)
        assert (paid.status, paid.amount_paid_minor, paid.paid_at) == ("paid", 4900, at(10))
        ended = session.get_one(Subscription, subscription)
        assert (ended.status, ended.canceled_at) == ("canceled", at(9))  # not when the repair was made
        new = session.scalars(select(Invoice).where(Invoice.provider_invoice_id == "in_new")).one()
        assert (new.organization_id, new.amount_due_minor, new.currency) == (ours.organization, 700, "USD")
        audit = session.scalars(select(AuditLog)).all()
        assert {row.action for row in audit} == {"billing.repair"}
        assert {row.actor for row in audit} == {"ops"}
        assert len(audit) == 3
        assert session.get_one(ReconciliationRun, summary.run_id).repaired == 3
    # Once more: nothing is done twice.
    assert not any(repairs.repair(ours.database, row, actor="ops", now=at(20)) for row in planned)
    reconcile_period(ours.database, stripe_books, JANUARY)
    assert ours.findings() == [("missing_here", "ch_money"), ("missing_here", "in_strange")]


def test_a_row_that_changed_since_is_left_alone(lite: Ours, stripe: Stripe, stripe_books: StripeBooks) -> None:
    stripe.invoice("in_x", 4900, at(10), "open")
    invoice = lite.invoice("in_x", 4900, at(10), "draft")
    summary = reconcile_period(lite.database, stripe_books, JANUARY)
    with lite.database.begin() as session:
        session.execute(update(Invoice).values(status="paid"))
    [row] = findings(lite.database, summary.run_id)
    assert not repairs.repair(lite.database, row, actor="ops", now=at(20))
    with lite.database.begin() as session:
        assert session.get_one(Invoice, invoice).status == "paid"
        assert session.scalars(select(AuditLog)).all() == []


# --- Bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (at(2), at(1), "before it starts"),
        (at(1), at(1), "before it starts"),
        (at(1), at(500), "in the future"),
        (datetime(2026, 1, 1), at(2), "no time zone"),
        (at(1), datetime(2026, 1, 2), "no time zone"),
    ],
)
def test_periods_that_are_none(start: datetime, end: datetime, message: str) -> None:
    with pytest.raises(InvalidPeriod, match=message):
        period_of(start, end, now=datetime(2026, 6, 1, tzinfo=UTC))
