"""The way to Redis, and how what goes wrong there becomes a RedisUnavailable.

A Link is one connection, used by one thread at a time. A Connector opens links, as many as there are threads that use
one, and calls on idle ones, again where a connection was lost.
"""

from fourlane.queues.redis.client import SOCKET_TIMEOUT_SECONDS, Cluster, client_of, connect, naming
from fourlane.queues.redis.connector import Connector
from fourlane.queues.redis.errors import (
    is_answer,
    is_full,
    is_passing,
    is_refusal,
    is_unsupported,
    lacks_right,
    may_come,
    unavailable,
)
from fourlane.queues.redis.link import Link, blocks_for

__all__ = [
    "SOCKET_TIMEOUT_SECONDS",
    "Cluster",
    "Connector",
    "Link",
    "blocks_for",
    "client_of",
    "connect",
    "is_answer",
    "is_full",
    "is_passing",
    "is_refusal",
    "is_unsupported",
    "lacks_right",
    "may_come",
    "naming",
    "unavailable",
]
