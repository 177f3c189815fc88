"""Jobs of tasks that this process does not know: another version of the code may."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final

from fourlane.queues.redis import Link
from fourlane.queues.store import Store

__all__ = ["DEAD_AFTER_MS", "Promotion", "pause_ms", "unknown_tasks"]

DEAD_AFTER_MS: Final = 24 * 3_600_000
_TRIES: Final = 4
_SHORTEST_MS: Final = 500
_LONGEST_MS: Final = 30_000
_SWEEP_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6)
"""Between sweeps for parked jobs that find none, until the last one."""


def pause_ms(unknown_ms: int, tries: int) -> int:
    """Until such a job is tried again.

    Some workers try one after the other at once, whoever waits longest. Then it rests: shortly at first, for in a
    deploy a worker that knows it is near.
    """
    return 0 if tries % _TRIES else max(_SHORTEST_MS, min(_LONGEST_MS, unknown_ms // 2))


def unknown_tasks(store: Store, service: str, tasks: Collection[str]) -> list[str]:
    """Those of these tasks that a worker did not know of late."""
    unknown = store.connector.command(key := store.service(service).unknown, "ZRANGE", key, 0, -1)
    return [name for name in (text.decode(errors="replace") for text in unknown) if name in tasks]


class Promotion:
    """A worker that begins takes the jobs that others parked of a service's tasks, which those do not know.

    It does so in sweeps, each time as many as it has places for, so that they need not pass through the hands of
    the others again; until some sweeps in turn found none, for some may still be in such hands. Used by the loop only.
    """

    def __init__(self, store: Store, service: str, tiers: str, tasks: Sequence[str]) -> None:
        self.at = 0.0
        """When to look next; never again once it has ended."""
        self.taken = 0
        self._store = store
        self._service = service
        self._tiers = tiers
        self._tasks = tasks
        self._until, self._left = b"0", 0
        self._found = False
        self._pauses = deque(_SWEEP_SECONDS)

    def take(self, link: Link, most: int, now: float) -> int:
        """Make up to so many ready, to be leased in a turn at once. Returns how many. Raises RedisUnavailable."""
        keys = self._store.service(self._service).all
        args = (self._until, self._left, most, self._tiers, *self._tasks)
        found, self._left, until = link.run("promote", keys, args)
        self.taken += found
        self._found = self._found or found > 0
        self._until = until or b"0"
        if not until:
            self._end_sweep(now)
        return int(found)

    def _end_sweep(self, now: float) -> None:
        self._left = 0
        if self._found:
            self._pauses = deque(_SWEEP_SECONDS)
        self._found = False
        self.at = now + self._pauses.popleft() if self._pauses else math.inf
