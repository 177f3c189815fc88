"""Senders of what comes in: how often each comes, and what it sent first, as all processes together saw it."""

from __future__ import annotations

from fourlane.queues.store import Store

__all__ = ["KnownSenders"]


class KnownSenders:
    """By keys of the caller's own. Each call is one script, and may be repeated."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def wait_ms(self, service: str, sender: str, *, per_minute: int) -> int:
        """Count a request; 0 when it may pass, else the time after which one will.

        What is remembered of a sender is gone as soon as it would make no difference.
        """
        key = self._store.service(service).rate(sender)
        return int(self._store.connector.run("rate", (key,), (max(1, 60_000_000 // per_minute), per_minute)))

    def first_seen(self, service: str, key: str, seen: str, *, ttl_ms: int) -> str:
        """What was seen first under this key; ``seen`` when nothing was before."""
        name = self._store.service(service).seen(key)
        return bytes(self._store.connector.run("first_seen", (name,), (seen, ttl_ms))).decode()
