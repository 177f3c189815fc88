"""Jobs that events make, each once in a day at least: ids are remembered by the day, whatever becomes of the jobs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fourlane.queues.batches import batches
from fourlane.queues.store import Store

__all__ = ["REMEMBER_MS", "Accepting", "accept", "days"]

_DAY_MS: Final = 86_400_000
REMEMBER_MS: Final = 3 * _DAY_MS
"""The set of a day is read until the end of the next one, by clocks that differ."""


class Accepting(NamedTuple):
    """A job that an event makes: its entry, its body, and when it may run (milliseconds since the epoch; 0: now)."""

    entry: str
    body: bytes
    due_ms: int = 0


def accept(store: Store, service: str, tier: int, jobs: Sequence[Accepting]) -> int:
    """Accept jobs of one tier. Returns how many were not known before.

    Raises:
      RedisUnavailable: not all were accepted. The same call may be repeated.
    """
    store.announce(service)
    keys = store.service(service)
    names = [keys.jobs, keys.ready[tier], keys.wake[tier], keys.delayed, keys.news, *days(store, service)]
    flat: list[Any] = []
    for accepting in jobs:
        flat += (accepting.entry, accepting.body, accepting.due_ms)
    return sum(int(store.connector.run("accept", names, (tier, REMEMBER_MS, *batch))) for batch in batches(flat, 3))


def days(store: Store, service: str) -> list[bytes]:
    """Where ids are remembered: today's, and those of the days beside it."""
    return store.service(service).taken(int(time.time() * 1000) // _DAY_MS)
