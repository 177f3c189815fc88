"""Places that whoever wants to work alone, or among few, holds for a time."""

from __future__ import annotations

from fourlane.queues.store import Store

__all__ = ["Places"]


class Places:
    """By keys of the caller's own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def hold(self, service: str, key: str, who: str, *, places: int, hold_ms: int) -> bool:
        """Take one of a key's places, or hold it longer; false: none is free."""
        name = self._store.service(service).places(key)
        return bool(self._store.connector.run("hold", (name,), (places, who, hold_ms)))

    def let_go(self, service: str, key: str, who: str) -> None:
        """Give the place back."""
        name = self._store.service(service).places(key)
        self._store.connector.command(name, "ZREM", name, who)
