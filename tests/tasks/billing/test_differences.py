"""What differs between a provider's books and ours: a row per kind, without books or a database."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fourlane.providers.payments import Entry, Period
from fourlane.tasks.billing.differences import Ours, Seen, differences, missing_there, moved, same_payment


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


@pytest.mark.parametrize(
    ("seen", "mine", "details", "kinds"),
    [
        ([SEEN], [], {"moved": "charge"}, []),
        ([], [OURS], {}, []),
        ([], [], {}, ["missing_here"]),
        ([replace(SEEN, amount_minor=400)], [], {"moved": "charge"}, ["amount"]),
        ([replace(SEEN, amount_minor=400)], [], {"moved": "refund"}, []),  # that was another movement
        ([replace(SEEN, amount_minor=400, currency="EUR")], [], {"moved": "charge"}, []),  # converted
    ],
)
def test_money_that_moved(seen: list[Seen], mine: list[Ours], details: Mapping[str, Any], kinds: list[str]) -> None:
    entry = replace(ENTRY, object="balance", details=details)
    assert [finding.kind for finding in moved("stripe", entry, seen, mine, PERIOD)] == kinds
    assert moved("stripe", replace(entry, at=at(20)), seen, mine, PERIOD) == []


def test_of_two_charges_for_one_thing_the_later_is_too_many() -> None:
    entries = [replace(SEEN, ref="ch_2", at=at(13)), SEEN, replace(SEEN, ref="ch_3", at=at(21))]
    assert [(f.kind, f.ref, dict(f.details)) for f in same_payment("stripe", entries, PERIOD)] == [
        ("duplicate", "ch_2", {"of": "ch_1"})
    ]


def test_a_difference_is_the_same_in_every_run() -> None:
    [one] = differences("stripe", ENTRY, [], PERIOD)
    [again] = differences("stripe", replace(ENTRY, status="open"), [], PERIOD)
    [other] = differences("paypal", ENTRY, [], PERIOD)
    assert one.fingerprint == again.fingerprint != other.fingerprint
