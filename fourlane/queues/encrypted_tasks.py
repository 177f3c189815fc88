"""Which tasks are encrypted, for who makes their jobs without knowing them: the relay, of rows that SQL wrote."""

from __future__ import annotations

from collections.abc import Mapping

from fourlane.queues.store import Store

__all__ = ["declare_encrypted", "encrypted_tasks"]


def encrypted_tasks(store: Store, service: str) -> set[str]:
    """The names of those that workers of the service have declared."""
    key = store.service(service).encrypted
    return {name.decode() for name in store.connector.command(key, "SMEMBERS", key)}


def declare_encrypted(store: Store, service: str, tasks: Mapping[str, bool]) -> None:
    """Make Redis know of each of a program's tasks, by name, whether it is encrypted. Others keep what was said."""
    known = encrypted_tasks(store, service)
    key = store.service(service).encrypted
    now = {name for name, encrypt in tasks.items() if encrypt}
    for word, names in (("SADD", now - known), ("SREM", known & (tasks.keys() - now))):
        if names:
            store.connector.command(key, word, key, *sorted(names))
