"""Which servers there are, by a client of redis-py: one, or the nodes of a cluster."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from fourlane.queues.redis import failures
from fourlane.queues.redis.borrowed import Borrowed
from fourlane.queues.redis.client import Cluster, One, make_connection
from fourlane.queues.redis.errors import unavailable
from fourlane.queues.redis.wire import Wire

if TYPE_CHECKING:
    import redis
    from redis.cluster import RedisCluster

__all__ = ["Client", "Servers"]

Client: TypeAlias = "redis.Redis | RedisCluster | One | Cluster"


class Servers:
    """The one server that holds all keys, or those of a cluster. Whatever goes wrong is a RedisUnavailable."""

    def __init__(self, client: Client) -> None:
        self._given = client
        self.clustered = isinstance(client, Cluster) or hasattr(client, "nodes_manager")

    @property
    def client(self) -> Any:
        """The client of redis-py. Raises RedisUnavailable: no node of the cluster answers."""
        return self._ask(self._given.client) if isinstance(self._given, (One, Cluster)) else self._given

    @property
    def address(self) -> str:
        """Scheme, host, port and database of the server; never a user or a password."""
        if self.clustered:
            return "a cluster"
        if isinstance(self._given, One):
            return self._given.server.address
        client = self.client
        pool = client.connection_pool
        options = pool.connection_kwargs
        database = options.get("db") or 0
        if "path" in options:
            return f"unix://{options['path']}?db={database}"
        from redis import SSLConnection

        scheme = "rediss" if issubclass(pool.connection_class, SSLConnection) else "redis"
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

    def connection(self, node: Any, most_seconds: float = math.inf) -> Wire | Borrowed:
        """A new connection, which waits no longer than this for a reply."""
        if isinstance(self._given, One):
            return Wire(self._given.server, most_seconds)
        client = self.client
        of = self._ask(lambda: client if node is None else client.get_redis_connection(node))
        made: Borrowed = self._ask(lambda: make_connection(of, most_seconds))
        return made

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
            ours = failures.of(error)
            told = ours.below if isinstance(ours, failures.RedisClusterException) else None
            below = failures.of(told) if isinstance(told, Exception) else None
            cause = below if isinstance(below, failures.RedisError) else ours
            raise unavailable(cause) from cause
