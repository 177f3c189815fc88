"""Redis's time without asking Redis: clocks of machines differ, and what is compared must come from one of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis.connector import Connector

__all__ = ["RedisClock", "time_ms"]

_GOOD_SECONDS: Final = 600.0
_AGAIN_SECONDS: Final = 10.0  # after it could not be asked
_JUMP_SECONDS: Final = 1.0


def time_ms(connector: Connector, key: bytes) -> int:
    """Ask the server that holds this key: milliseconds since the epoch. Raises RedisUnavailable."""
    seconds, microseconds = connector.command(key, "TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


class RedisClock:
    """Milliseconds since the epoch as Redis counts them: its time asked now and then, and the monotonic clock since.

    It is asked again after ten minutes, and at once when this machine's clock was set or it slept.

    Parameters:
      ask: Redis's time, in milliseconds. Raises RedisUnavailable.
    """

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._ahead_ms: float | None = None  # of the monotonic clock
        self._wall_ahead = 0.0
        self._ask_at = 0.0

    def now_ms(self) -> int:
        """While Redis cannot be asked: as it was known last, and this machine's own time if it never was."""
        monotonic = time.monotonic()
        wall_ahead = time.time() - monotonic
        if monotonic >= self._ask_at or abs(wall_ahead - self._wall_ahead) > _JUMP_SECONDS:
            self._learn(wall_ahead)
        if self._ahead_ms is None:
            return int(time.time() * 1000)
        return int(time.monotonic() * 1000 + self._ahead_ms)

    def learn(self, redis_ms: int, sent: float, received: float) -> None:
        """Take what a reply told, between these moments of the monotonic clock."""
        self._ahead_ms = redis_ms - (sent + received) / 2 * 1000
        self._wall_ahead = time.time() - time.monotonic()
        self._ask_at = received + _GOOD_SECONDS

    def _learn(self, wall_ahead: float) -> None:
        if not self._lock.acquire(blocking=self._ahead_ms is None):
            return  # another thread asks; what is known will do meanwhile
        try:
            if time.monotonic() < self._ask_at and abs(wall_ahead - self._wall_ahead) <= _JUMP_SECONDS:
                return
            sent = time.monotonic()
            try:
                redis_ms = self._ask()
            except RedisUnavailable:
                self._ask_at, self._wall_ahead = time.monotonic() + _AGAIN_SECONDS, wall_ahead
            else:
                self.learn(redis_ms, sent, time.monotonic())
        finally:
            self._lock.release()
