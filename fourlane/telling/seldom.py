"""Lines that would come at each try."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["AtMostOnce"]


class AtMostOnce:
    """Lets one thing through in so many seconds: a line for what goes wrong at each try."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._now = now
        self._next = 0.0

    def passes(self) -> bool:
        now = self._now()
        if now < self._next:
            return False
        self._next = now + self.seconds
        return True
