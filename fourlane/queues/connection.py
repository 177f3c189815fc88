"""Connections to Redis, and how what goes wrong with them becomes a RedisUnavailable.

A Link is one connection, used by one thread at a time: to the one server of a URL a Wire (wire.py), else one like
those of the redis-py client that a Connector was given (TLS, ACL, sentinel, cluster). A Connector opens as many as
there are threads that use one, and keeps idle ones for callers that come and go. redis-py is loaded only for clients.

A call whose reply is lost may have been done. Some scripts bear to be run again, for others each call has an
identity, which the script remembers: ``Connector.run_once`` and ``run_each_once``.
"""

from __future__ import annotations

import errno
import math
import os
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from fourlane.errors import RedisUnavailable, SettingsError
from fourlane.queues import failures
from fourlane.queues.borrowed import Borrowed
from fourlane.queues.scripts import FLAG, Script, script
from fourlane.queues.url import NOT_TO_BE_READ, read
from fourlane.queues.wire import Server, Wire

if TYPE_CHECKING:
    import redis
    from redis.cluster import RedisCluster

__all__ = ["Cluster", "Connector", "Link", "blocks_for", "client_of", "connect", "naming"]

from hiredis import pack_command as _pack

SOCKET_TIMEOUT_SECONDS = 5.0
_RETRIES = 3
_ANSWER_MARGIN_SECONDS: Final = 1.0
_PATIENCE_SECONDS = SOCKET_TIMEOUT_SECONDS + _ANSWER_MARGIN_SECONDS  # one more try after a silent socket, not three
_SHORTEST_BLOCK_SECONDS: Final = 0.002  # Redis 6.2 makes 0 of 0.001, and 0 means for ever
_MOST_IDLE = 256
_ORIGIN_SECONDS = 30.0  # a third of what Redis remembers a key's last call for (lua/parts/once.lua)
_LOST = (failures.ConnectionError, failures.TimeoutError, failures.RedisClusterException, OSError)
# The server's word for what went wrong: redis-py cuts it off, Redis 6 hides it inside the text of a script's error.
_WORD = re.compile(r"\b(OOM|MISCONF|NOREPLICAS|READONLY|LOADING|BUSY|MASTERDOWN|UNBLOCKED|MOVED|ASK|CLUSTERDOWN|"
                   r"TRYAGAIN|CROSSSLOT|NOAUTH|WRONGPASS|NOPERM)\b")  # fmt: skip
_PASSING = {"READONLY", "LOADING", "BUSY", "MASTERDOWN", "UNBLOCKED", "MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN"}
_TO_A_PATH: Final = " connecting to /"
_LACKS_CA: Final = "CERTIFICATE_VERIFY_FAILED"
_NO_CLUSTER: Final = "Cluster mode is not enabled"
_DENIED = {"NOAUTH", "WRONGPASS", "NOPERM"}
_WRITES_NOTHING = {"OOM", "MISCONF", "NOREPLICAS"}


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


def blocks_for(seconds: float) -> str:
    """The last word of a blocking command: how long it waits, never for ever."""
    return f"{max(seconds, _SHORTEST_BLOCK_SECONDS):.3f}"


def _make_connection(client: Any, most_seconds: float = math.inf) -> Borrowed:
    """A connection like this client's, and none of its pool: a pool counts what it made, and stops at a number."""
    pool = client.connection_pool
    options = pool.connection_kwargs | _LINK_OPTIONS
    for name in ("socket_timeout", "socket_connect_timeout"):
        given = options.get(name)  # None in a client that was given: its silent sockets end too
        options[name] = min(SOCKET_TIMEOUT_SECONDS if given is None else given, most_seconds)
    return Borrowed(pool.connection_class(**options))


class Link:
    """One connection. Whatever goes wrong with it is a RedisUnavailable."""

    def __init__(self, connector: Connector, connection: Wire | Borrowed) -> None:
        self.connector = connector
        self.connection = connection
        self._origins: tuple[bytes, bytes] | None = None
        self._origins_until = 0.0
        self._calls = 0

    def next_call(self, sent: bytes) -> tuple[bytes, int]:
        """The identity of a call that is made on this link first: a key that begins with ``sent``, and a number.

        A script remembers the last number that it saw under a key. So a key must never have two calls without a
        reply: two in turn have different keys, and a connection that is lost takes its keys with it.
        """
        now = time.monotonic()
        if self._origins is None or now > self._origins_until:
            origin = secrets.token_urlsafe(9).encode()
            self._origins, self._origins_until = (origin + b"0", origin + b"1"), now + _ORIGIN_SECONDS
            self._calls = 0
        self._calls = number = self._calls + 1
        return sent + self._origins[number & 1], number

    def run(self, name: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """Run a script. Raises RedisUnavailable; whether the script ran is then unknown."""
        connector = self.connector
        wanted = self._script(name)
        try:
            return self.command("EVALSHA", wanted.sha, len(keys), *keys, *args)
        except failures.NoScriptError:
            if connector.flags_scripts is None:
                connector.flags_scripts = self._takes_flag()
            wanted = self._script(name)
        except RedisUnavailable as error:
            return self._run_when_full(wanted, error, keys, args)
        try:
            return self.command("EVAL", wanted.source, len(keys), *keys, *args)
        except RedisUnavailable as error:
            return self._run_when_full(wanted, error, keys, args)

    def _script(self, name: str) -> Script:
        try:
            return script(name, self.connector.flags_scripts is True)
        except OSError as error:  # no descriptor is left to read it with
            raise unavailable(error) from error

    def _run_when_full(self, refused: Script, error: RedisUnavailable, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        # Refused at its first write, so nothing was done.
        if refused.when_full is None or not is_full(error):
            raise error
        return self.command("EVAL", refused.when_full.source, len(keys), *keys, *args)

    def _takes_flag(self) -> bool:
        try:
            self.command("EVAL", FLAG + "return 1", 0)
        except RedisUnavailable as error:
            if is_refusal(error):
                return False
            raise
        return True

    def send_script(self, name: str, keys: Sequence[Any], args: Sequence[Any]) -> None:
        """Send a script's call; ``receive_script`` reads its reply."""
        wanted = self._script(name)
        self.send("EVALSHA", wanted.sha, len(keys), *keys, *args)

    def receive_script(self) -> Any:
        """The reply; None when the server did not know the script, or had no memory for it: nothing was done."""
        try:
            return self.receive()
        except failures.NoScriptError:
            return None
        except RedisUnavailable as error:
            if is_full(error):
                return None
            raise

    def command(self, *words: Any) -> Any:
        """Send one command and read its reply."""
        self.send(*words)
        return self.receive()

    def send(self, *words: Any) -> None:
        packed = [_pack(words)]
        try:
            if self.connection._sock is None:
                self.connection.connect()
            self.connection.send_packed_command(packed, check_health=False)
        except Exception as error:
            self.close()
            raise unavailable(error) from error
        except BaseException:  # an interrupt: half a request may be sent
            self.close()
            raise

    def receive(self) -> Any:
        """Read one reply."""
        try:
            return self.connection.read_response()
        except failures.NoScriptError:
            raise
        except Exception as error:
            # A server that answers with an error is in a known state, but READONLY and the like want a new address.
            if not isinstance(error, failures.ResponseError) or _word(error) in _PASSING:
                self.close()
            raise unavailable(error) from error
        except BaseException:  # an interrupt: the reply, or half of it, is still to come
            self.close()
            raise

    def has_reply(self) -> bool:
        """Whether something that was sent lies here unread."""
        try:
            return bool(self.connection.can_read(0))
        except Exception as error:
            self.close()
            raise unavailable(error) from error

    def fileno(self) -> int:
        """The socket, for a selector. Connects when it must."""
        try:
            self.connection.connect()
            assert self.connection._sock is not None
            return int(self.connection._sock.fileno())
        except Exception as error:
            self.close()
            raise unavailable(error) from error

    def close(self) -> None:
        self._origins = None
        self.connection.disconnect()


class _Calls:
    """The calls of one ``run_each_once``. Those without a reply are made again on the next link, and no others."""

    def __init__(self, name: str, keys: Sequence[Any], batches: Iterable[Sequence[Any]], sent: bytes) -> None:
        self.name = name
        self.keys = keys
        self.batches = iter(batches)
        self.sent = sent
        self.replies: list[Any] = []
        self._open: deque[tuple[bytes, int, Sequence[Any]]] = deque()  # sent, the oldest first; two at most
        self._refused: deque[Sequence[Any]] = deque()

    def run(self, link: Link) -> None:
        """Each is sent before the reply to the one before is read, so the server works while we make the next one."""
        try:
            self._run_open(link)
            for args in self.batches:
                key, number = link.next_call(self.sent)
                self._open.append((key, number, args))
                link.send_script(self.name, (*self.keys, key), (number, *args))
                if len(self._open) > 1:
                    self._receive(link)
            while self._open:
                self._receive(link)
            while self._refused:
                self._open.append((*link.next_call(self.sent), self._refused.popleft()))
                self._run_open(link)
        except BaseException:
            link.close()  # replies may still come
            raise

    def _run_open(self, link: Link) -> None:
        while self._open:
            key, number, args = self._open[0]
            self.replies.append(link.run(self.name, (*self.keys, key), (number, *args)))
            self._open.popleft()

    def _receive(self, link: Link) -> None:
        reply = link.receive_script()
        _, _, args = self._open.popleft()
        if reply is None:
            self._refused.append(args)
        else:
            self.replies.append(reply)


class Connector:
    """Opens links.

    Parameters:
      answer_seconds: no link waits longer than this for a connection or a reply, whatever the client allows.
    """

    def __init__(self, client: redis.Redis | RedisCluster | One | Cluster, answer_seconds: float = math.inf) -> None:
        self._given = client
        self._answer_seconds = answer_seconds
        self.clustered = isinstance(client, Cluster) or hasattr(client, "nodes_manager")
        self._idle: dict[Any, deque[Link]] = {}
        self._pid = os.getpid()
        self.flags_scripts: bool | None = None
        """Whether the server takes the flag of scripts.py; asked when it does not know a script."""

    @property
    def client(self) -> Any:
        """The client of redis-py. Raises RedisUnavailable: no node of the cluster answers."""
        return self._guard(self._given.client) if isinstance(self._given, (One, Cluster)) else self._given

    def answering_within(self, seconds: float) -> Connector:
        """The same servers, with links that wait no longer than this."""
        return Connector(self._given, seconds)

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

    def open(self, key: bytes) -> Link:
        """A new link to the server that holds this key."""
        return Link(self, self._connection(self._node(key)))

    def open_all(self) -> Iterator[tuple[str, Link]]:
        """A new link to each server that holds keys, with its address when there are several."""
        if not self.clustered:
            yield "", Link(self, self._connection(None))
            return
        for node in self._guard(self.client.get_primaries):
            yield node.name, Link(self, self._connection(node))

    def _node(self, key: bytes) -> Any:
        if not self.clustered:
            return None
        client = self.client
        return self._guard(lambda: client.get_node_from_key(key))

    def _connection(self, node: Any) -> Wire | Borrowed:
        if isinstance(self._given, One):
            return Wire(self._given.server, self._answer_seconds)
        client = self.client
        of = self._guard(lambda: client if node is None else client.get_redis_connection(node))
        made: Borrowed = self._guard(lambda: _make_connection(of, self._answer_seconds))
        return made

    def _guard(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Exception as error:
            # Of a cluster that cannot be reached redis-py tells in words of its own, from the last node's error.
            ours = failures.of(error)
            told = ours.below if isinstance(ours, failures.RedisClusterException) else None
            below = failures.of(told) if isinstance(told, Exception) else None
            cause = below if isinstance(below, failures.RedisError) else ours
            raise unavailable(cause) from cause

    def refresh(self) -> None:
        """Learn anew who holds what, after a cluster said so."""
        if self.clustered:
            self._guard(self.client.nodes_manager.initialize)

    def run(self, name: str, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        """Run a script on an idle link; repeat it after a lost connection. Only for scripts that bear repetition."""
        return self._repeat(keys[0], lambda link: link.run(name, keys, args))

    def run_once(self, name: str, keys: Sequence[Any], args: Sequence[Any], sent: bytes, *, marks: bool = False) -> Any:
        """Run a script that remembers its calls (lua/parts/once.lua); it is done once, however often it is repeated.

        Parameters:
          sent: what the key begins with under which it remembers, which becomes the last of its keys. Its first
            argument becomes the call's number.
          marks: put a "+" behind the number of a repeat (lua/parts/first_reply.lua).
        """
        call: tuple[bytes, int] | None = None
        mark = ""

        def use(link: Link) -> Any:
            nonlocal call, mark
            key, number = call = call or link.next_call(sent)
            numbered, mark = f"{number}{mark}", "+" if marks else ""
            return link.run(name, (*keys, key), (numbered, *args))

        return self._repeat(keys[0], use)

    def run_each_once(self, name: str, keys: Sequence[Any], batches: Iterable[Sequence[Any]], sent: bytes) -> list[Any]:
        """As run_once, for each batch, on one link. The replies may come in another order.

        Raises RedisUnavailable: not all were done.
        """
        calls = _Calls(name, keys, batches, sent)
        while True:
            before = len(calls.replies)
            try:
                self._repeat(keys[0], calls.run)
                return calls.replies
            except RedisUnavailable as error:
                if not is_passing(error) or len(calls.replies) == before:
                    raise

    def command(self, key: bytes, *words: Any) -> Any:
        """Run one command on an idle link, likewise."""
        return self._repeat(key, lambda link: link.command(*words))

    def _repeat(self, key: bytes, use: Callable[[Link], Any]) -> Any:
        patience = time.monotonic() + min(_PATIENCE_SECONDS, self._answer_seconds + _ANSWER_MARGIN_SECONDS)
        for retry in range(_RETRIES + 1):
            try:
                if retry:
                    self.refresh()
                return self._use_idle(key, use)
            except RedisUnavailable as error:
                if not is_passing(error) or retry == _RETRIES or time.monotonic() > patience:
                    raise
            self._close_idle()  # as old as the one that broke, and each would cost a try
            time.sleep(0.05 * 2**retry)
        raise AssertionError("unreachable")

    def _use_idle(self, key: bytes, use: Callable[[Link], Any]) -> Any:
        idle, node = self._idle_links(key)
        try:
            link = idle.pop()
        except IndexError:
            link = Link(self, self._connection(node))
        try:
            return use(link)
        except BaseException as error:
            if not isinstance(error, RedisUnavailable):  # an interrupt amid a reply
                link.close()
            raise
        finally:
            if link.connection._sock is not None and len(idle) < _MOST_IDLE:
                idle.append(link)  # also after a refusal: it is as good as before
            else:
                link.close()

    def _idle_links(self, key: bytes) -> tuple[deque[Link], Any]:
        if os.getpid() != self._pid:  # a fork's parent owns those sockets
            self._idle, self._pid = {}, os.getpid()
        node = self._node(key) if self.clustered else None
        name = node.name if node is not None else None
        links = self._idle.get(name)
        if links is None:
            links = self._idle.setdefault(name, deque())
        return links, node

    def _close_idle(self) -> None:
        for links in list(self._idle.values()):
            _close_all(links)

    def close(self) -> None:
        self._close_idle()
        self._given.close()


def _close_all(links: deque[Link]) -> None:
    try:
        while True:  # other threads take some too
            links.pop().close()
    except IndexError:
        pass


def is_passing(error: RedisUnavailable) -> bool:
    """True when the same call may succeed on a new connection."""
    cause = error.__cause__
    return (isinstance(cause, _LOST) or _word(cause) in _PASSING) and not _is_denied(cause)


def may_come(error: RedisUnavailable) -> bool:
    """True when the server may be there later, with nobody changing our settings."""
    lasts = _LACKS_CA in str(error) or _NO_CLUSTER in str(error) or _lacks_file(error.__cause__)
    return is_passing(error) and not lasts


def _errno(error: BaseException) -> int | None:
    own = error if isinstance(error, OSError) and error.errno else _below(error)
    return own.errno if isinstance(own, OSError) else None


def _below(error: BaseException | None) -> BaseException | None:
    """The operating system's error that was the reason of this one."""
    return error.below if isinstance(error, failures.RedisError) else None


def _lacks_file(error: BaseException | None) -> bool:
    """Of its certificates: a Unix socket's file may come."""
    return isinstance(_below(error), FileNotFoundError) and _TO_A_PATH not in str(error)


def is_answer(error: RedisUnavailable) -> bool:
    """True when the server was reached, and said no: for whatever reason."""
    return isinstance(error.__cause__, failures.ResponseError)


def is_refusal(error: RedisUnavailable) -> bool:
    """True when the server is well and refused just this, e.g. for a key of the wrong type."""
    cause = error.__cause__
    if not isinstance(cause, failures.ResponseError) or _is_denied(cause):
        return False
    return _word(cause) not in _PASSING | _WRITES_NOTHING


def is_unsupported(error: RedisUnavailable) -> bool:
    """True when the server, or what reads its answers here, does not know this command."""
    cause = error.__cause__
    return isinstance(cause, (failures.ResponseError, failures.InvalidResponse)) and _word(cause) not in _PASSING


def lacks_right(error: RedisUnavailable) -> bool:
    """True when the user that we are may not run this command, or not on this key."""
    return _word(error.__cause__) == "NOPERM"


def is_full(error: RedisUnavailable) -> bool:
    """True when the server is out of memory; it has then done nothing."""
    return _word(error.__cause__) == "OOM"


def unavailable(error: Exception) -> RedisUnavailable:
    """Our error for one of redis-py's, with what to do."""
    if isinstance(error, RedisUnavailable):
        return error
    word = _word(error)
    if _is_denied(error):
        hint = "check the user and the password in REDIS_URL, and the user's rights (docs/operating.md)"
    elif word in _HINTS:
        hint = _HINTS[word]
    elif isinstance(error, failures.ResponseError):
        hint = "Redis answered with an error"
    elif _LACKS_CA in str(error):
        hint = "name the CA that signed the server's certificate: rediss://…?ssl_ca_certs=FILE"
    elif _NO_CLUSTER in str(error):
        hint = "this server is of no cluster: leave cluster=true out of REDIS_URL; or this user lacks +cluster|slots"
    elif _errno(error) in (errno.EMFILE, errno.ENFILE):
        hint = "this program has no file descriptor left; raise its limit (ulimit -n)"
    elif _lacks_file(error):
        hint = "a file that REDIS_URL names does not exist: ssl_ca_certs, ssl_certfile or ssl_keyfile"
    elif not isinstance(error, (*_LOST, failures.RedisError)):
        hint = "check the address and the options in REDIS_URL"
    else:
        hint = "is the server running, and REDIS_URL right?"
    return RedisUnavailable(f"Redis: {str(error) or type(error).__name__} ({hint})")


_NODE_HINT: Final = "other keys are other nodes'; of a node of a Redis Cluster say so: redis://HOST:PORT/0?cluster=true"
_HINTS = {
    "MOVED": _NODE_HINT,
    "CROSSSLOT": _NODE_HINT,
    "OOM": "Redis is out of memory; give it more, or drop dead letters",
    "MISCONF": "Redis cannot write to its disk and refuses writes; free space there",
    "NOREPLICAS": "Redis refuses writes while too few replicas are connected",
    "READONLY": "this server is a replica; is a failover under way?",
    "LOADING": "Redis is loading its data; it will answer soon",
    "BUSY": "Redis runs a script of somebody that does not end",
}


def _word(error: BaseException | None) -> str:
    """The word by which Redis names this error; "" when it is none of those that matter here."""
    if not isinstance(error, failures.RedisError):
        return ""
    if _WORD.fullmatch(error.word):
        return error.word
    found = _WORD.search(str(error)) if isinstance(error, failures.ResponseError) else None
    return found[0] if found else ""


def _is_denied(error: BaseException | None) -> bool:
    if isinstance(error, (failures.AuthenticationError, failures.AuthorizationError)) or _word(error) in _DENIED:
        return True
    # Inside a script, in the words of Valkey and of Redis.
    return isinstance(error, failures.ResponseError) and (
        "ACL failure in script" in str(error) or "The user executing the script can't" in str(error)
    )
