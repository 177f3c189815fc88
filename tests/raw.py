"""What lies in Redis, as who has its memory or its file sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fourlane.queues.broker import RedisBroker

__all__ = ["in_redis"]


def in_redis(broker: RedisBroker) -> bytes:
    """All that Redis holds of the broker's namespace, names of keys included, as one text."""
    client: Any = broker.client
    read: dict[bytes, Callable[[bytes], Any]] = {
        b"hash": client.hgetall,
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"stream": client.xrange,
        b"none": lambda key: None,  # it is gone meanwhile
    }
    keys = list(client.scan_iter(f"{broker.store.namespace}:*", count=1_000))
    assert keys
    return repr([(key, read[client.type(key)](key)) for key in keys]).encode()
