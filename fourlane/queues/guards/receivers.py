"""Receivers of what we send: how many calls one is given at once, and whether it is left alone."""

from __future__ import annotations

from fourlane.queues.store import Store

__all__ = ["Receivers"]


class Receivers:
    """By keys of the caller's own. A place is one call at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def hold(self, service: str, key: str, who: str, *, places: int, hold_ms: int) -> int:
        """Take one of a receiver's places: 0 taken, -1 none is free, else ms until its breaker may be tried."""
        keys = self._store.service(service)
        return int(self._store.connector.run("hold", (keys.places(key), keys.breaker(key)), (places, who, hold_ms)))

    def let_go(self, service: str, key: str, who: str) -> None:
        """Give the place back."""
        name = self._store.service(service).places(key)
        self._store.connector.command(name, "ZREM", name, who)

    def open_breaker(self, service: str, key: str, for_ms: int) -> None:
        """Leave a receiver alone for a while."""
        name = self._store.service(service).breaker(key)
        self._store.connector.command(name, "SET", name, 1, "PX", for_ms)
