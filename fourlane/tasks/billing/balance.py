"""What a provider's balance proves: money that moved belongs to something of ours, in the amount that moved.

So what is listed nowhere else is found: disputes, their reversals, and charges that were captured days after they were
made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fourlane.providers.payments import Entry, Period
from fourlane.tasks.billing.differences import NEVER_HAPPENED, Finding, Kind, Ours, Seen, word

__all__ = ["moved"]

_REVERSED: Final = frozenset({"won", "reversed"})
"""What a dispute's row says when the money came back, where that has no row of its own."""


def moved(provider: str, entry: Entry, seen: Sequence[Seen], mine: Sequence[Ours], period: Period) -> list[Finding]:
    """Judge a balance entry.

    Parameters:
      seen: what the run saw under the entry's ref in the provider's other books.
      mine: our rows under that ref, and of a reversal those under the dispute's.
    """

    def found(kind: Kind, ours: Ours | None = None, **details: Any) -> Finding:
        return Finding(
            provider=provider,
            kind=kind,
            object="balance",
            ref=entry.ref,
            entry=entry,
            ours=ours,
            details=dict(entry.details) | details,
        )

    if entry.at not in period:
        return []
    if seen:  # our rows were compared with what is listed
        unlike = (other.amount_minor for other in seen if _unlike_listed(entry, other))
        return [found("amount", listed_minor=amount) for amount in unlike][:1]
    booked = next((row for row in mine if row.ref == entry.ref), None)  # an id has one row
    if booked is None:
        is_told = entry.details.get("moved") == "reversal" and any(word(row.status) in _REVERSED for row in mine)
        return [] if is_told else [found("missing_here")]
    findings = []
    if _unlike_ours(entry, booked):
        findings.append(found("amount", booked))
    if _never_moved(entry, booked):
        findings.append(found("status", booked))
    return findings


def _unlike_listed(entry: Entry, other: Seen) -> bool:
    # In another currency it was converted: that is no difference.
    same = other.currency != entry.currency or other.amount_minor == entry.amount_minor
    return not same and other.amount_minor is not None and entry.details.get("moved") == other.object


def _unlike_ours(entry: Entry, ours: Ours) -> bool:
    if (ours.currency or "").upper() != entry.currency or entry.amount_minor is None:
        return False
    return ours.amount_minor is None or abs(ours.amount_minor) != entry.amount_minor


def _never_moved(entry: Entry, ours: Ours) -> bool:
    """Of a dispute our row may say how it stands."""
    status = word(ours.status)
    if entry.details.get("moved") in ("charge", "refund"):
        return status != entry.status
    return status in NEVER_HAPPENED
