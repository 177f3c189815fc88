"""Which providers and tenants are in use: the list of those that have a state of their own."""

from __future__ import annotations

import time
from typing import Final

from fourlane.queues.store import Store

__all__ = ["Index"]

_ANNOUNCE_SECONDS: Final = 3_600.0
_MOST_ANNOUNCED: Final = 10_000


class Index:
    """A list in Redis of what is in use; a process tells it of each once an hour."""

    def __init__(self, store: Store, key: bytes, keep_ms: int) -> None:
        self._store, self._key, self._keep_ms = store, key, keep_ms
        self._announced: dict[str, float] = {}

    def announce(self, member: str) -> None:
        now = time.monotonic()
        if now - self._announced.get(member, -_ANNOUNCE_SECONDS) < _ANNOUNCE_SECONDS:
            return
        now_ms = int(time.time() * 1000)
        self._store.connector.run("announce", (self._key,), (now_ms, now_ms - self._keep_ms, member))
        if len(self._announced) >= _MOST_ANNOUNCED:
            self._announced.clear()
        self._announced[member] = now

    def members(self) -> list[str]:
        since_ms = int(time.time() * 1000) - self._keep_ms
        told = self._store.connector.command(self._key, "ZRANGEBYSCORE", self._key, since_ms, "+inf")
        return [member.decode() for member in told]
