"""Which servers there are, by a client of redis-py: one, or the nodes of a cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import redis
import redis.exceptions as failures
from redis.cluster import RedisCluster

from fourlane.queues.redis.client import Cluster, make_connection
from fourlane.queues.redis.errors import unavailable

__all__ = ["Client", "Servers"]

Client: TypeAlias = redis.Redis | RedisCluster | Cluster


class Servers:
    """The one server that holds all keys, or those of a cluster. Whatever goes wrong is a RedisUnavailable."""

    def __init__(self, client: Client) -> None:
        self._given = client
        self.clustered = isinstance(client, (RedisCluster, Cluster))

    @property
    def client(self) -> Any:
        """The client of redis-py. Raises RedisUnavailable: no node of the cluster answers."""
        return self._ask(self._given.client) if isinstance(self._given, Cluster) else self._given

    @property
    def address(self) -> str:
        """Scheme, host, port and database of the server; never a user or a password."""
        if self.clustered:
            return "a cluster"
        client = self.client
        pool = client.connection_pool
        options = pool.connection_kwargs
        database = options.get("db") or 0
        if "path" in options:
            return f"unix://{options['path']}?db={database}"
        scheme = "rediss" if issubclass(pool.connection_class, redis.SSLConnection) else "redis"
        host = options.get("host") or "localhost"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{options.get('port') or 6379}/{database}"

    def node_of(self, key: bytes) -> Any:
        """Who holds this key; None for the one server."""
        if not self.clustered:
            return None
        client = self.client
        return self._ask(lambda: client.get_node_from_key(key))

    def nodes(self) -> Iterator[Any]:
        """All that hold keys; None for the one server."""
        yield from self._ask(self.client.get_primaries) if self.clustered else [None]

    def connection(self, node: Any, most_seconds: float = math.inf) -> Any:
        """A new connection, which waits no longer than this for a reply."""
        client = self.client
        of = self._ask(lambda: client if node is None else client.get_redis_connection(node))
        return self._ask(lambda: make_connection(of, most_seconds))

    def refresh(self) -> None:
        """Learn anew who holds what, after a cluster said so."""
        if self.clustered:
            self._ask(self.client.nodes_manager.initialize)

    def close(self) -> None:
        self._given.close()

    def _ask(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Exception as error:
            # Of a cluster that cannot be reached redis-py tells in words of its own, from the last node's error.
            told = error.__cause__ if isinstance(error, failures.RedisClusterException) else None
            cause = told if isinstance(told, failures.RedisError) else error
            raise unavailable(cause) from cause
