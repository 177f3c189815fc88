"""What Redis says of itself."""

from __future__ import annotations

import re

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis.clock import time_ms
from fourlane.queues.store import Store

__all__ = ["eviction_policy", "memory", "now_ms", "traffic"]


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


def traffic(store: Store) -> tuple[int, int, int] | None:
    """Commands that this Redis ran since its start, those inside scripts too, bytes it got and bytes it sent; None
    when it does not tell us."""
    found = _info(store, "stats")
    names = ("total_commands_processed", "total_net_input_bytes", "total_net_output_bytes")
    commands, got, sent = (int(found.get(name, -1)) for name in names)
    return None if min(commands, got, sent) < 0 else (commands, got, sent)


def _info(store: Store, section: str) -> dict[str, str]:
    """Empty when this user may not ask."""
    try:
        told = store.connector.command(store.keys.services, "INFO", section)
    except RedisUnavailable:
        return {}
    text = told.decode(errors="replace") if isinstance(told, bytes) else ""
    return dict(re.findall(r"^(\w+):(\S+)", text, re.MULTILINE))
