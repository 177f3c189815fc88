"""The latest time that was told of a thing, so that who hears of an earlier one knows that it comes late."""

from __future__ import annotations

from fourlane.queues.store import Store

__all__ = ["Latest"]


class Latest:
    """By keys of the caller's own. Times are whole numbers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, service: str, key: str) -> int:
        """-1 when none was told."""
        name = self._store.service(service).latest(key)
        return int(self._store.connector.command(name, "GET", name) or -1)

    def tell(self, service: str, key: str, time: int, *, ttl_ms: int) -> None:
        """Remember it, unless a later one is known."""
        self._store.connector.run("latest", (self._store.service(service).latest(key),), (time, ttl_ms))
