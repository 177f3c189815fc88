"""What Redis says of itself."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis.clock import time_ms
from fourlane.queues.store import Store

__all__ = ["Traffic", "eviction_policy", "memory", "now_ms", "traffic"]


def now_ms(store: Store) -> int:
    """Redis's own time, by which all times in the queues are written: milliseconds since the epoch."""
    return time_ms(store.connector, store.keys.services)


def eviction_policy(store: Store) -> str | None:
    """Redis's maxmemory-policy; None when it does not tell us. Any but ``noeviction`` may cost jobs."""
    return _info(store, "memory").get("maxmemory_policy")


def memory(store: Store) -> tuple[int, int] | None:
    """Bytes that Redis uses, and its maxmemory, 0 for none; None when it does not tell us."""
    found = _info(store, "memory")
    return (int(found["used_memory"]), int(found.get("maxmemory", 0))) if "used_memory" in found else None


class Traffic(NamedTuple):
    """What a Redis did for anyone since its start, and how many are connected now; None: it does not tell us."""

    commands: int | None
    """Those inside scripts too."""
    got_bytes: int | None
    sent_bytes: int | None
    hits: int | None
    """Keys that were looked up and found."""
    misses: int | None
    connections: int | None


_OF_TRAFFIC: Final = (
    "total_commands_processed",
    "total_net_input_bytes",
    "total_net_output_bytes",
    "keyspace_hits",
    "keyspace_misses",
    "connected_clients",
)


def traffic(store: Store) -> Traffic:
    found = _info(store, "stats") | _info(store, "clients")
    return Traffic(*(int(found[name]) if found.get(name, "").isdecimal() else None for name in _OF_TRAFFIC))


def _info(store: Store, section: str) -> dict[str, str]:
    """Empty when this user may not ask."""
    try:
        told = store.connector.command(store.keys.services, "INFO", section)
    except RedisUnavailable:
        return {}
    text = told.decode(errors="replace") if isinstance(told, bytes) else ""
    return dict(re.findall(r"^(\w+):(\S+)", text, re.MULTILINE))
