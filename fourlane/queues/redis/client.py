"""What a URL names: one server or a cluster, and clients of redis-py for both. That is loaded only for them."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from fourlane.errors import RedisUnavailable, SettingsError
from fourlane.queues.redis import failures
from fourlane.queues.redis.borrowed import Borrowed
from fourlane.queues.redis.errors import unavailable
from fourlane.queues.redis.url import NOT_TO_BE_READ, read
from fourlane.queues.redis.wire import Server

if TYPE_CHECKING:
    import redis
    from redis.cluster import RedisCluster

__all__ = ["SOCKET_TIMEOUT_SECONDS", "Cluster", "One", "client_of", "connect", "make_connection", "naming"]

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
    """A client of redis-py for the one server of this URL; never waits for ever on a silent socket.

    Raises SettingsError: it cannot be read.
    """
    return _one(url, read(url).url, _options(url)).client()


def client_of(url: str) -> One | Cluster:
    """The server of this URL, or the cluster that it says its server to be of (``?cluster=true``).

    Raises SettingsError: it cannot be read.
    """
    address, options = read(url), _options(url)
    one = _one(url, address.url, options)
    return Cluster(address.url, options) if address.clustered else one


def _one(url: str, plain: str, options: dict[str, Any]) -> One:
    try:
        return One(plain, options)
    except ValueError:
        raise SettingsError(NOT_TO_BE_READ) from None


def _options(url: str) -> dict[str, Any]:
    options: dict[str, Any] = {} if url.startswith("unix:") else {"socket_keepalive": True}
    options |= dict.fromkeys(("socket_timeout", "socket_connect_timeout"), SOCKET_TIMEOUT_SECONDS)
    return options | read(url).options


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
                from redis.cluster import RedisCluster

                self._client = RedisCluster.from_url(self._url, **self._options)
            return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


class One:
    """The one server of a URL. Its client is made on first use, for those who ask for more than links."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        """Raises ValueError."""
        self.server = Server(url, options)
        self._url = url
        self._lock = threading.Lock()
        self._client: redis.Redis | None = None

    def client(self) -> redis.Redis:
        with self._lock:
            if self._client is None:
                import redis

                self._client = redis.Redis.from_url(self._url, **self.server.options)
            return self._client

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def make_connection(client: Any, most_seconds: float = math.inf) -> Borrowed:
    """A connection like this client's, and none of its pool: a pool counts what it made, and stops at a number."""
    pool = client.connection_pool
    options = pool.connection_kwargs | _LINK_OPTIONS
    for name in ("socket_timeout", "socket_connect_timeout"):
        given = options.get(name)  # None in a client that was given: its silent sockets end too
        options[name] = min(SOCKET_TIMEOUT_SECONDS if given is None else given, most_seconds)
    return Borrowed(pool.connection_class(**options))


@contextmanager
def naming(setting: str) -> Iterator[None]:
    """For what uses redis-py's client itself: its errors become ours, and name the setting that its URL is from."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(str(error).replace("REDIS_URL", setting)) from None
    except Exception as error:
        ours = failures.of(error)
        if not isinstance(ours, failures.RedisError):
            raise
        raise RedisUnavailable(str(unavailable(ours)).replace("REDIS_URL", setting)) from ours
