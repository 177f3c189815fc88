"""Clients of redis-py by a URL, and connections like theirs."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
import redis.exceptions as failures
from redis.cluster import RedisCluster

from fourlane.errors import RedisUnavailable, SettingsError
from fourlane.queues.redis.errors import unavailable
from fourlane.queues.redis.url import NOT_TO_BE_READ, Address, read

__all__ = ["SOCKET_TIMEOUT_SECONDS", "Cluster", "client_of", "connect", "make_connection", "naming"]

SOCKET_TIMEOUT_SECONDS: Final = 5.0
# As we need them, whatever the client that was given has: replies in bytes, and our own way to try again.
_LINK_OPTIONS: Final = {
    "decode_responses": False,
    "encoding": "utf-8",
    "encoding_errors": "strict",
    "driver_info": None,  # else each connection reads the version of redis-py from its files, and tells it in two calls
    "retry": None,
    "retry_on_timeout": False,
    "retry_on_error": [],
}


def connect(url: str) -> redis.Redis:
    """A client for the one server of this URL; never waits for ever on a silent socket.

    Raises SettingsError: it cannot be read.
    """
    client, _, _ = _connect(url)
    return client


def client_of(url: str) -> redis.Redis | Cluster:
    """Likewise, or the cluster that it says its server to be of (``?cluster=true``)."""
    client, address, options = _connect(url)
    if not address.clustered:
        return client
    client.close()
    return Cluster(address.url, options)


def _connect(url: str) -> tuple[redis.Redis, Address, dict[str, Any]]:
    address = read(url)
    options: dict[str, Any] = {} if url.startswith("unix:") else {"socket_keepalive": True}
    options |= dict.fromkeys(("socket_timeout", "socket_connect_timeout"), SOCKET_TIMEOUT_SECONDS)
    options |= address.options
    try:
        client = redis.Redis.from_url(address.url, **options)
        make_connection(client)  # what its options say is looked at only here
    except (ValueError, TypeError, failures.RedisError):
        raise SettingsError(NOT_TO_BE_READ) from None
    return client, address, options


class Cluster:
    """A cluster, by one of its nodes. Its client is made on first use: redis-py asks the nodes when it makes one."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._url = url
        self._options = options
        self._lock = threading.Lock()
        self._client: RedisCluster | None = None

    def client(self) -> RedisCluster:
        """Raises redis-py's errors: no node answers, or this is no cluster."""
        with self._lock:
            if self._client is None:
                self._client = RedisCluster.from_url(self._url, **self._options)
            return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def make_connection(client: Any, most_seconds: float = math.inf) -> Any:
    """A connection like this client's, and none of its pool: a pool counts what it made, and stops at a number."""
    pool = client.connection_pool
    options = pool.connection_kwargs | _LINK_OPTIONS
    for name in ("socket_timeout", "socket_connect_timeout"):
        given = options.get(name)  # None in a client that was given: its silent sockets end too
        options[name] = min(SOCKET_TIMEOUT_SECONDS if given is None else given, most_seconds)
    return pool.connection_class(**options)


@contextmanager
def naming(setting: str) -> Iterator[None]:
    """For what uses redis-py's client itself: its errors become ours, and name the setting that its URL is from."""
    try:
        yield
    except failures.RedisError as error:
        raise RedisUnavailable(str(unavailable(error)).replace("REDIS_URL", setting)) from error
    except SettingsError as error:
        raise SettingsError(str(error).replace("REDIS_URL", setting)) from None
