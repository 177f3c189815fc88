"""What differs between an entry in a provider's books and what we have of it. Pure rules: no database, no clock.

balance.py and paid_twice.py have those for money that moved, and for what was paid for again.

================  ===============================================================================================
kind              meaning
================  ===============================================================================================
missing_here      money moved there, or an invoice or subscription is there, and we have no row of it
missing_there     we have a row that says it is the provider's, and the provider has nothing of that id
amount            both have it, in one currency, with different amounts
currency          both have it, in different currencies
status            both have it, in different states
duplicate         we have it twice (by the charge's id and by its payment's), or it was paid for again
orphan_refund     a refund whose payment we do not know
late              both have it, on different sides of the period's edge
unknown_currency  a currency that ISO 4217 does not list, so that its amount cannot be compared
================  ===============================================================================================
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from fourlane import money
from fourlane.providers.payments import Entry, Period

__all__ = ["NEVER_HAPPENED", "Finding", "Kind", "Ours", "Seen", "differences", "missing_there", "word"]

Kind = Literal[
    "missing_here",
    "missing_there",
    "amount",
    "currency",
    "status",
    "duplicate",
    "orphan_refund",
    "late",
    "unknown_currency",
]
NEVER_HAPPENED: Final = frozenset({"failed", "canceled", "void", "draft", "incomplete", "incomplete_expired"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """A row of ours, as far as it is compared."""

    table: str
    id: uuid.UUID
    organization_id: uuid.UUID
    ref: str
    amount_minor: int | None
    paid_minor: int | None = None
    currency: str | None
    status: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """What the run remembers of an entry."""

    object: str
    ref: str
    amount_minor: int | None
    currency: str
    status: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference."""

    provider: str
    kind: Kind
    object: str
    ref: str
    entry: Entry | None = None
    ours: Ours | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The same for the same difference, in whatever run it is found."""
        parts = (self.provider, self.kind, self.object, self.ref, self.ours.id.hex if self.ours else "")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def differences(
    provider: str,
    entry: Entry,
    mine: Sequence[Ours],
    period: Period,
    *,
    parent_known: bool = True,
) -> list[Finding]:
    """Compare an entry with our rows of it.

    Parameters:
      mine: all that we have under the entry's ids, whenever it was booked.
      parent_known: of a refund, whether we have the payment.
    """

    def found(kind: Kind, ours: Ours | None = None, **details: Any) -> Finding:
        return Finding(
            provider=provider,
            kind=kind,
            object=entry.object,
            ref=entry.ref,
            entry=entry,
            ours=ours,
            details=dict(entry.details) | details,
        )

    lives_on = entry.object == "subscription"  # it has no single moment
    inside = lives_on or entry.at in period
    rows = sorted(mine, key=lambda ours: (ours.at, ours.id.hex))
    first = rows[0] if rows else None
    findings: list[Finding] = []
    if inside and not _is_currency(entry):
        findings.append(found("unknown_currency", first))
    if inside and entry.object == "refund" and not parent_known and entry.expected:
        findings.append(found("orphan_refund", first, parent=list(entry.parent)))
    elif inside and first is None and entry.expected:
        findings.append(found("missing_here"))
    if first is None:
        return findings
    within = lives_on or first.at in period
    if not inside and not within:
        return findings  # another period's business
    if inside != within:
        findings.append(found("late", first, at_provider=entry.at.isoformat(), here=first.at.isoformat()))
    findings += [found("duplicate", other, of=first.id.hex) for other in rows[1:]]
    if (first.currency or "").upper() != entry.currency:
        findings.append(found("currency", first))
    elif _amount_differs(entry, first):
        findings.append(found("amount", first))
    if word(first.status) != word(entry.status):
        findings.append(found("status", first))
    return findings


def _is_currency(entry: Entry) -> bool:
    try:
        money.digits(entry.currency)
    except money.UnknownCurrency:
        return False
    return True


def _amount_differs(entry: Entry, ours: Ours) -> bool:
    if entry.amount_minor is None:
        return False  # a metered price, or a currency that is a finding of its own
    if ours.amount_minor is None or abs(ours.amount_minor) != entry.amount_minor:
        return True
    paid = entry.details.get("amount_paid_minor")
    return paid is not None and ours.paid_minor is not None and paid != ours.paid_minor


def word(status: str) -> str:
    """A status, written in one way."""
    return "canceled" if status == "cancelled" else status


def missing_there(provider: str, ours: Ours) -> Finding | None:
    """What it means that the provider has nothing under the id of a row of ours."""
    if word(ours.status) in NEVER_HAPPENED:
        return None
    details = {} if ours.ref else {"reason": "the row names the provider, and no id of it"}
    return Finding(
        provider=provider,
        kind="missing_there",
        object=_OBJECTS[ours.table],
        ref=ours.ref,
        ours=ours,
        details=details,
    )


_OBJECTS: Final = {"credit_transactions": "transaction", "invoices": "invoice", "subscriptions": "subscription"}
