"""What differs between a provider's books and ours: a row per kind, without books or a database."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fourlane.providers.payments import Entry, Period
from fourlane.tasks.billing.balance import moved
from fourlane.tasks.billing.differences import Ours, Seen, differences, missing_there
from fourlane.tasks.billing.paid_twice import overpaid, same_payment


def at(day: int) -> datetime:
    return datetime(2026, 1, day, tzinfo=UTC)


PERIOD = Period(at(10), at(20))
ENTRY = Entry(object="charge", ref="ch_1", amount_minor=500, currency="USD", status="paid", at=at(12))
OURS = Ours(
    table="credit_transactions", id=uuid.UUID(int=1), organization_id=uuid.UUID(int=9), ref="ch_1", amount_minor=500,
    currency="usd", status="paid", at=at(12),
)  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "ours", "kinds"),
    [
        ({}, [{}], []),
        ({}, [], ["missing_here"]),
        ({"expected": False}, [], []),  # what failed need not be here
        ({}, [{"amount_minor": 501}], ["amount"]),
        ({}, [{"amount_minor": -500}], []),  # a debit of ours
        ({}, [{"amount_minor": None}], ["amount"]),
        ({"amount_minor": None}, [{"amount_minor": 7}], []),  # nobody can say
        ({"details": {"amount_paid_minor": 400}}, [{"paid_minor": 500}], ["amount"]),
        ({}, [{"currency": "eur", "amount_minor": 7}], ["currency"]),  # then the amounts are not compared
        ({"currency": "XXQ"}, [{"currency": "xxq"}], ["unknown_currency"]),
        ({}, [{"status": "open"}], ["status"]),
        ({"status": "canceled"}, [{"status": "cancelled"}], []),
        ({}, [{}, {"id": uuid.UUID(int=2)}], ["duplicate"]),
        ({}, [{"at": at(9)}], ["late"]),
        ({"at": at(20)}, [{"at": at(19)}], ["late"]),
        ({"at": at(20)}, [], []),  # the next period's
        ({"at": at(9)}, [{"at": at(9), "status": "open"}], []),  # the one's before
        ({"object": "subscription", "at": at(1)}, [{"status": "open"}], ["status"]),  # it has no single moment
        ({}, [{"status": "open", "amount_minor": 1, "at": at(9)}], ["late", "amount", "status"]),
    ],
)
def test_an_entry_and_our_rows_of_it(entry: dict[str, Any], ours: list[dict[str, Any]], kinds: list[str]) -> None:
    found = differences("stripe", replace(ENTRY, **entry), [replace(OURS, **row) for row in ours], PERIOD)
    assert [finding.kind for finding in found] == kinds


@pytest.mark.parametrize(
    ("known", "expected", "kinds"),
    [(True, True, ["missing_here"]), (False, True, ["orphan_refund"]), (False, False, [])],
)
def test_a_refund_and_its_payment(known: bool, expected: bool, kinds: list[str]) -> None:
    refund = replace(ENTRY, object="refund", ref="re_1", parent=("ch_1",), expected=expected)
    assert [finding.kind for finding in differences("stripe", refund, [], PERIOD, parent_known=known)] == kinds


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({}, "missing_there"),
        ({"ref": ""}, "missing_there"),
        ({"status": "failed"}, None),  # it never happened
        ({"status": "cancelled"}, None),
        ({"table": "invoices", "status": "draft"}, None),
    ],
)
def test_a_row_that_the_provider_does_not_have(row: dict[str, Any], kind: str | None) -> None:
    found = missing_there("stripe", replace(OURS, **row))
    assert (found.kind if found else None) == kind


SEEN = Seen("charge", "ch_1", 500, "USD", "paid", at(12))


MOVED: list[tuple[list[Seen], list[dict[str, Any]], str, list[str]]] = [
    ([SEEN], [], "charge", []),
    ([], [{}], "charge", []),
    ([], [], "charge", ["missing_here"]),
    ([replace(SEEN, amount_minor=400)], [], "charge", ["amount"]),
    ([replace(SEEN, amount_minor=400)], [], "refund", []),  # that was another movement
    ([replace(SEEN, amount_minor=400, currency="EUR")], [], "charge", []),  # converted
    ([SEEN], [{"amount_minor": 1}], "charge", []),  # what is listed was compared with ours
    ([], [{"amount_minor": 1000}], "charge", ["amount"]),  # captured later than we look, in part
    ([], [{"amount_minor": None}], "charge", ["amount"]),
    ([], [{"currency": "EUR", "amount_minor": 1}], "charge", []),  # converted
    ([], [{"status": "pending"}], "charge", ["status"]),
    ([], [{"amount_minor": 400}], "adjustment", ["amount"]),  # a dispute
    ([], [{"amount_minor": -500, "status": "lost"}], "adjustment", []),
    ([], [{"status": "failed"}], "adjustment", ["status"]),  # but the money moved
    ([], [], "reversal", ["missing_here"]),
    ([], [{"ref": "dp_1"}], "reversal", ["missing_here"]),  # the dispute is booked, what came back is not
    ([], [{"ref": "dp_1", "status": "won"}], "reversal", []),
    ([], [{"ref": "dp_1"}, {}], "reversal", []),
    ([], [{"ref": "dp_1", "status": "won"}, {"amount_minor": 1}], "reversal", ["amount"]),
]


@pytest.mark.parametrize(("seen", "mine", "kind", "kinds"), MOVED)
def test_money_that_moved(seen: list[Seen], mine: list[dict[str, Any]], kind: str, kinds: list[str]) -> None:
    entry = replace(ENTRY, object="balance", status="paid", details={"moved": kind})
    rows = [replace(OURS, **row) for row in mine]
    assert [finding.kind for finding in moved("stripe", entry, seen, rows, PERIOD)] == kinds
    assert moved("stripe", replace(entry, at=at(20)), seen, rows, PERIOD) == []


def test_of_two_charges_for_one_thing_the_later_is_too_many() -> None:
    entries = [replace(SEEN, ref="ch_2", at=at(13)), SEEN, replace(SEEN, ref="ch_3", at=at(21))]
    assert [(f.kind, f.ref, dict(f.details)) for f in same_payment("stripe", entries, PERIOD)] == [
        ("duplicate", "ch_2", {"of": "ch_1"})
    ]


@pytest.mark.parametrize(
    ("due", "payments", "refs"),
    [
        (500, [("a", 500, 12)], []),
        (500, [("a", 200, 12), ("b", 300, 13)], []),  # in parts
        (500, [("a", 500, 12), ("b", 500, 13)], ["b"]),
        (500, [("b", 500, 13), ("a", 500, 12)], ["b"]),  # in whatever order they are listed
        (500, [("a", 500, 9), ("b", 500, 13), ("c", 1, 14)], ["b", "c"]),  # the first was before the period
        (500, [("a", 500, 12), ("b", 500, 20)], []),  # the next period's
        (500, [("a", 400, 12), ("b", 500, 13)], []),  # something was due
        (0, [("a", 500, 12)], []),
        (None, [("a", 500, 12), ("b", 500, 13)], []),  # nobody can say
    ],
)
def test_an_invoice_that_is_paid_again(due: int | None, payments: list[tuple[str, int, int]], refs: list[str]) -> None:
    paid = [{"ref": ref, "amount_minor": amount, "at": int(at(day).timestamp())} for ref, amount, day in payments]
    details = {"due_minor": due, "payments": paid}
    entry = replace(ENTRY, object="invoice_payment", group="in_1", details=details)
    found = overpaid("stripe", entry, PERIOD)
    assert [(finding.kind, finding.ref) for finding in found] == [("duplicate", ref) for ref in refs]
    assert all(finding.details == {"of": "a", "invoice": "in_1"} for finding in found)


def test_a_difference_is_the_same_in_every_run() -> None:
    [one] = differences("stripe", ENTRY, [], PERIOD)
    [again] = differences("stripe", replace(ENTRY, status="open"), [], PERIOD)
    [other] = differences("paypal", ENTRY, [], PERIOD)
    assert one.fingerprint == again.fingerprint != other.fingerprint
