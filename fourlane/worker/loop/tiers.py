"""What a worker knows of a service's tiers: which may have jobs, which rest, which waited past their target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from fourlane.names import Tier

__all__ = ["Tiers"]

_CROWD_SECONDS: Final = 0.01  # in so long no more than so many jobs of a tier may find no place of their task's share
_MOST_CROWDED: Final = 20
_TARGETS: Final = {str(int(tier)): tier.target_ms for tier in Tier}


class Tiers:
    """Tiers are digits here, as in entries: ``0`` to ``3``."""

    def __init__(self, served: str) -> None:
        self.served = served
        self.maybe = set(served)
        """Those that may have jobs."""
        self.late: set[str] = set()
        """Those whose oldest job waited past the tier's target."""
        self.resting: dict[str, float] = {}
        """Those from which nothing is leased, and until when."""
        self.untaken: dict[str, float] = {}
        """Those whose token no slot took, and when it is another worker's."""
        self._late_at: dict[str, float] = {}
        self._crowded: dict[str, tuple[float, int]] = {}  # since when, and how many
        self._from_token = False  # a token is all that tells of ``maybe``

    @property
    def waiting(self) -> Sequence[str]:
        """Those that may have jobs and may be leased from, the highest first."""
        tiers = self.maybe - self.resting.keys() if self.resting else self.maybe
        return sorted(tiers) if len(tiers) > 1 else list(tiers)

    def to_lease_from(self, *, down_to: str, whatever: bool) -> str:
        """Those to try: all when any may have jobs that no token told of, or ``whatever`` is known."""
        every = whatever or (self.maybe and not self._from_token)
        tiers = self.served if every else "".join(sorted(self.maybe))
        if self.resting:
            tiers = "".join(tier for tier in tiers if tier not in self.resting)
        return "".join(tier for tier in tiers if tier <= down_to)

    # Tokens

    def heard(self, tier: str) -> None:
        """Its token came. A wait gives the highest tier's first: right now nothing is known of higher ones."""
        self._from_token = not self.maybe
        self.maybe.add(tier)

    def heard_without_room(self, tier: str, until: float) -> None:
        """Its token came, and no slot is free: unless one is by then, it is another worker's."""
        self.maybe.add(tier)
        self.untaken[tier] = until

    def take_untaken(self, now: float) -> list[str]:
        """Those whose token is another worker's by now."""
        over = [tier for tier, at in self.untaken.items() if at <= now]
        for tier in over:
            del self.untaken[tier]
        return over

    def know(self, tiers: AbstractSet[str]) -> None:
        """These may have jobs too."""
        self.maybe |= tiers

    def hand_all_on(self) -> None:
        """Tokens were lost that may have been another worker's."""
        self.untaken = dict.fromkeys(self.served, 0.0)

    def forget_tokens(self) -> None:
        """None is handed on any more."""
        self.untaken.clear()

    def all_may_have_jobs(self) -> None:
        """Nothing is known any more."""
        self.maybe = set(self.served)
        self._from_token = False

    # Turns

    def tried(self, asked: str, more: str) -> None:
        """A turn tried to lease from these, and these of them may have more."""
        self.maybe = (self.maybe - set(asked)) | (set(more) & set(self.served))
        self.late &= self.maybe
        if self.untaken:
            self.untaken = {tier: at for tier, at in self.untaken.items() if tier not in asked}

    def looked_at(self) -> None:
        """A turn was taken: what a token told is old."""
        self._from_token = False

    def learn_ages(self, ages: Sequence[float | None], now: float) -> None:
        """How long each tier's oldest job has waited."""
        self.late.clear()
        for tier in self.served:
            age = ages[int(tier)]
            if age is None:
                self.maybe.discard(tier)
            else:
                self.maybe.add(tier)
            late_in = _TARGETS[tier] - (age or 0)
            self._late_at[tier] = now + late_in / 1000
            if late_in < 0:
                self.late.add(tier)

    def asks_ages_at(self, best: str) -> float:
        """When to ask how long they have waited: those that something better, of ``best``, delays. No token tells of
        them meanwhile."""
        behind = [self._late_at.get(tier, 0.0) for tier in self.served if tier > best and tier not in self.late]
        return min(behind, default=math.inf)

    # Shares of tasks

    def crowd(self, tier: str, now: float) -> None:
        """A job found no place of its task's share, and lets those behind it pass. The tier rests when they are many,
        for lower ones have work too. From any thread."""
        since, count = self._crowded.get(tier, (0.0, 0))
        if now - since > _CROWD_SECONDS:
            since, count = now, 0
        self._crowded[tier] = since, count + 1
        if count + 1 >= _MOST_CROWDED:
            self.resting[tier] = since + _CROWD_SECONDS

    def rouse(self, now: float) -> None:
        """Those whose rest is over may be leased from again."""
        for tier in [tier for tier, until in list(self.resting.items()) if until <= now]:
            del self.resting[tier]
