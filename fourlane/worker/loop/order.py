"""Whose turn it is: which service is asked next, and for which tiers. Pure: no store, no clock.

Among all that a worker serves a higher tier comes first; services of one tier take turns. A tier whose jobs have
waited past its target gets a share of the leases all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from fourlane.queues.turn import First

__all__ = ["Candidate", "Choice", "Shares", "late_tiers", "whose_turn"]

_ONE_IN: Final = 10
"""A tier past its target gets one lease in so many."""


class Candidate(Protocol):
    """What the order needs to know of a service."""

    served: int
    """When it last gave jobs, as a running number."""

    @property
    def waiting(self) -> Sequence[str]:
        """Tiers that may have jobs, the highest first; empty while it may not lease."""

    @property
    def late(self) -> set[str]:
        """Tiers past their target."""


class Choice(NamedTuple):
    """The service whose turn it is, and what to ask of it."""

    service: Any
    want: int
    down_to: str
    """The lowest tier to lease from; none at all when empty. No other service has that one waiting or a better one,
    unless it is this one's turn in it."""
    first: First | None = None
    """A tier past its target, which gets its share before."""


class Shares:
    """What tiers past their target are owed. Counted over all services, for the share is the tier's."""

    def __init__(self) -> None:
        self._owed: dict[str, int] = {}

    def leased(self, jobs: int, late: Iterable[str]) -> None:
        """So many jobs were leased while these tiers waited too long."""
        late = set(late)
        for tier in [tier for tier in self._owed if tier not in late]:
            del self._owed[tier]  # it has caught up
        for tier in late:
            self._owed[tier] = self._owed.get(tier, 0) + jobs

    def due(self, tier: str) -> int:
        """How many leases it is to get now."""
        return self._owed.get(tier, 0) // (_ONE_IN - 1)

    def paid(self, tier: str, jobs: int) -> None:
        """It got so many."""
        self._owed[tier] = max(0, self._owed.get(tier, 0) - jobs * (_ONE_IN - 1))


def late_tiers(services: Sequence[Candidate], best: str) -> set[str]:
    """Tiers past their target that something better is in the way of."""
    return {tier for service in services for tier in service.late if tier > best}


def whose_turn(services: Sequence[Candidate], want: int, shares: Shares) -> Choice | None:
    """The service to lease from now, or None when nothing is known to wait.

    Parameters:
      services: those that may be asked.
      want: how many jobs the worker has room for.
    """
    head: Candidate | None = None
    best = others_best = "9"
    for service in services:
        tiers = service.waiting
        if not tiers:
            continue
        tier = tiers[0]
        if head is None or tier < best or (tier == best and service.served < head.served):
            if head is not None:
                others_best = min(others_best, best)
            head, best = service, tier
        else:
            others_best = min(others_best, tier)
    if head is None:
        return None
    down_to = others_best if best == others_best or others_best == "9" else str(int(others_best) - 1)
    for tier in sorted(late_tiers(services, best)):
        due = shares.due(tier)
        if due:
            behind = min((s for s in services if tier in s.late and tier in s.waiting), key=_served, default=None)
            if behind is head:
                return Choice(head, want, down_to, First(tier, due))
            if behind is not None:
                return Choice(behind, min(want, due), "", First(tier, due))
    return Choice(head, want, down_to)


def _served(service: Candidate) -> int:
    return service.served
