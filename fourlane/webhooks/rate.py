"""How often something may be done: a bucket for each of those who do it, refilled evenly.

In this process alone. What all processes let pass together is counted in Redis (``gates.py``), which is not asked for
what one process refuses already.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

__all__ = ["Rates"]

_MOST_BUCKETS: Final = 10_000


class Rates:
    """May be shared by threads.

    Parameters:
      per_minute: of each; so many may also come at once. 0: no bound.
      now: monotonic seconds.
    """

    def __init__(self, per_minute: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._most = per_minute
        self._per_second = per_minute / 60
        self._now = now
        self._lock = threading.Lock()
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # what is left, and when

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._buckets)

    def wait(self, who: Hashable) -> int:
        """Count one; 0 when it may pass, else the seconds after which one will."""
        if not self._most:
            return 0
        with self._lock:
            left, now = self._left(who)
            passes = left >= 1
            self._keep(who, left - 1 if passes else left, now)
        return 0 if passes else max(1, math.ceil((1 - left) / self._per_second))

    def give_back(self, who: Hashable) -> None:
        """One that was counted does not count."""
        with self._lock:
            left, now = self._left(who)
            self._keep(who, min(float(self._most), left + 1), now)

    def hold_up(self, who: Hashable, seconds: float) -> None:
        """Let none pass for so long."""
        with self._lock:
            self._keep(who, min(self._left(who)[0], 1 - seconds * self._per_second), self._now())

    def _left(self, who: Hashable) -> tuple[float, float]:
        now = self._now()
        left, at = self._buckets.pop(who, (float(self._most), now))
        return min(float(self._most), left + (now - at) * self._per_second), now

    def _keep(self, who: Hashable, left: float, now: float) -> None:
        self._buckets[who] = (left, now)
        while len(self._buckets) > _MOST_BUCKETS:  # who was not seen for the longest time begins anew
            self._buckets.popitem(last=False)
