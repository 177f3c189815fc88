"""The places of a task with a share: so many of its jobs run in this process at once. The others look again later."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

__all__ = ["PATIENCE_SECONDS", "Gate"]

PATIENCE_SECONDS: Final = 0.02
"""As long as a job may lie here that no place is free for."""
_LEAST_PAUSE_SECONDS: Final = 0.2
_LONG_PAUSE_SECONDS: Final = 5.0
_MOST_PAUSE_SECONDS: Final = 30.0  # another worker may have room by then
_STEP_SECONDS: Final = (0.0002, 0.05)
_LOOKS_BETWEEN_ENDS: Final = 10


class Gate:
    """Lets jobs in as long as there are places.

    Those that find none look again one after the other, some ten in the time in which a place becomes free: so a
    backlog of them, however long, is not turned over and over, and no place stays empty for long.
    """

    def __init__(self, places: int, on_free: Callable[[Gate], None]) -> None:
        """
        Parameters:
          on_free: called, in any thread, when a place is free and coroutines wait.
        """
        self.places = places
        self.waiting: deque[tuple[float, Any]] = deque()  # coroutines, and until when; the event loop's alone
        self._on_free = on_free
        self._free = threading.Semaphore(places)
        self._patient = threading.Semaphore(1 + places // 4)
        self._lock = threading.Lock()
        self._run_seconds = 0.0
        self._moved_at = time.monotonic()
        self._looks_at = 0.0  # when the last of those that found none looks again

    def enter(self, *, patient: bool) -> bool:
        """Take a place; when one is likely to be free in a moment, ``patient`` waits for it."""
        entered = self._free.acquire(blocking=False)
        soon = not entered and patient and self._seconds_to_place(time.monotonic()) <= PATIENCE_SECONDS
        if soon and self._patient.acquire(blocking=False):  # few may: each keeps a slot from other tasks meanwhile
            try:
                entered = self._free.acquire(timeout=PATIENCE_SECONDS)
            finally:
                self._patient.release()
        if entered:
            self._moved_at = time.monotonic()
        return entered

    def let_wait(self, run: Any) -> bool:
        """As ``patient``, without blocking the event loop: it is among those that wait now, if that is for a moment."""
        now = time.monotonic()
        if (len(self.waiting) + 1) * self._seconds_to_place(now) > PATIENCE_SECONDS:
            return False
        self.waiting.append((now + PATIENCE_SECONDS, run))
        return True

    def leave(self, seconds: float) -> None:
        """Give the place back, after so long; 0: the job never began."""
        if seconds > 0:
            self._run_seconds += (seconds - self._run_seconds) / (4 if self._run_seconds else 1)
        self._moved_at = time.monotonic()
        self._free.release()
        if self.waiting:
            self._on_free(self)

    def pause_ms(self, now: float) -> int:
        """For a job that found no place: how long it lets others pass."""
        between = self._seconds_to_place(now)
        shortest, longest = _STEP_SECONDS
        step = min(longest, max(shortest, between / _LOOKS_BETWEEN_ENDS))
        first = now + max(_LEAST_PAUSE_SECONDS, min(_LONG_PAUSE_SECONDS, between))
        with self._lock:
            self._looks_at = min(max(first, self._looks_at + step), now + _MOST_PAUSE_SECONDS)
            return int((self._looks_at - now) * 1000)

    def _seconds_to_place(self, now: float) -> float:
        """Between two that become free, by the last ones; those that run now have lasted for so long at least."""
        return max(self._run_seconds, now - self._moved_at) / self.places
