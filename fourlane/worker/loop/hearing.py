"""What a worker listens for of one service while it waits in Redis: tokens that would tell something new."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from fourlane.names import Tier

__all__ = ["NEWS", "UNHEARD_SECONDS", "WATCH", "Hearing"]

NEWS: Final = 1 << 4
"""Beside the tiers' bits: the key by which Redis tells of delayed jobs."""
WATCH: Final = 1 << 5
"""Likewise: of workers that hold leases."""
UNHEARD_SECONDS: Final = 1.0
"""How long a wait lasts that leaves out what is another worker's for now."""
_BITS: Final = {str(int(tier)): 1 << int(tier) for tier in Tier}


class Hearing:
    """The tiers as bits, NEWS and WATCH."""

    def __init__(self, tiers: str) -> None:
        self._tiers = tiers
        self.all = sum(_BITS[tier] for tier in tiers) | NEWS | WATCH
        self.listens = 0
        """What the present wait listens for."""
        self._unheard = 0  # WATCH for a moment after it handed such a token on, and as long as it holds leases itself
        self._unheard_until = 0.0

    def wants(self, maybe: AbstractSet[str], alone: bool) -> int:
        """What to listen for.

        Parameters:
          maybe: tiers that may have jobs. Such a service is asked anyway, and only what is better is news.
          alone: it is the only one that is asked anyway, so nothing is news.
        """
        if not maybe:
            return self.all & ~self._unheard
        if alone:
            return 0
        best = min(maybe)
        return sum(_BITS[tier] for tier in self._tiers if tier < best) | (NEWS | WATCH) & ~self._unheard

    def is_deaf(self, maybe: AbstractSet[str], alone: bool) -> bool:
        """Something is not listened for that matters by now."""
        # What ``wants`` says of a service with nothing known, without the call: most are such.
        return bool((self.wants(maybe, alone) if maybe else self.all & ~self._unheard) & ~self.listens)

    def begin(self, bits: int) -> None:
        """A wait listens for these; 0: it is over."""
        self.listens = bits

    def hand_watch_on(self, now: float) -> None:
        """Such a token was heard, and another worker's it shall be."""
        self._unheard, self._unheard_until = WATCH, now + UNHEARD_SECONDS

    def hears_again(self, now: float, holds: bool) -> bool:
        """True when all that it wants to hear may be listened for in the next wait."""
        if self._unheard and not holds and now >= self._unheard_until:
            self._unheard = 0
        return not self._unheard

    def hear_all(self) -> None:
        """It holds no leases any more, for they were lost."""
        self._unheard = 0
