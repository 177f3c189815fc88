"""Payments that are too many: of one thing, which the provider's books name, or of an invoice that was paid already."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from fourlane.providers.payments import Entry, Paid, Period
from fourlane.tasks.billing.differences import Finding, Seen

__all__ = ["overpaid", "same_payment"]


def same_payment(provider: str, charges: Sequence[Entry | Seen], period: Period) -> list[Finding]:
    """Of the charges that paid for one thing, all but the first are too many."""
    first, *others = sorted(charges, key=lambda charge: (charge.at, charge.ref))
    return [
        _too_many(provider, "charge", other.ref, other.amount_minor, other.currency, other.at, of=first.ref)
        for other in others
        if other.at in period
    ]


def overpaid(provider: str, entry: Entry, period: Period) -> list[Finding]:
    """Of the payments of an invoice, which may be paid in parts, those that came when nothing was due any more."""
    due_minor = entry.details["due_minor"]
    found: list[Finding] = []
    if not due_minor:
        return found
    paid_minor = 0
    payments: list[Paid] = sorted(entry.details["payments"], key=lambda paid: (paid["at"], paid["ref"]))
    for payment in payments:
        at = datetime.fromtimestamp(payment["at"], UTC)
        if paid_minor >= due_minor and at in period:
            amount, first = payment["amount_minor"], payments[0]["ref"]
            twice = _too_many(
                provider, "payment", payment["ref"], amount, entry.currency, at, of=first, invoice=entry.group
            )
            found.append(twice)
        paid_minor += payment["amount_minor"]
    return found


def _too_many(
    provider: str, kind: str, ref: str, amount_minor: int | None, currency: str, at: datetime, **details: str
) -> Finding:
    entry = Entry(object=kind, ref=ref, amount_minor=amount_minor, currency=currency, status="succeeded", at=at)
    return Finding(provider=provider, kind="duplicate", object=kind, ref=ref, entry=entry, details=details)
