"""Opens links, and calls on idle ones, again after a lost connection.

A call whose reply is lost may have been done. Some scripts bear to be run again, for others each call has an
identity, which the script remembers: ``Connector.run_once`` and ``run_each_once``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis.calls import Calls
from fourlane.queues.redis.client import SOCKET_TIMEOUT_SECONDS
from fourlane.queues.redis.errors import is_passing
from fourlane.queues.redis.idle import MOST_IDLE, IdleLinks
from fourlane.queues.redis.link import Link
from fourlane.queues.redis.scripts import Scripts
from fourlane.queues.redis.servers import Client, Servers

__all__ = ["Connector"]

_RETRIES: Final = 3
_ANSWER_MARGIN_SECONDS: Final = 1.0
_PATIENCE_SECONDS = SOCKET_TIMEOUT_SECONDS + _ANSWER_MARGIN_SECONDS  # one more try after a silent socket, not three


class Connector:
    """Opens links like the client that it was given (TLS, ACL, sentinel, cluster).

    Parameters:
      answer_seconds: no link waits longer than this for a connection or a reply, whatever the client allows.
    """

    def __init__(self, client: Client, answer_seconds: float = math.inf) -> None:
        self._given = client
        self._answer_seconds = answer_seconds
        self._servers = Servers(client)
        self._idle = IdleLinks()
        self.clustered = self._servers.clustered
        self.scripts = Scripts()

    @property
    def client(self) -> Any:
        """The client of redis-py. Raises RedisUnavailable: no node of the cluster answers."""
        return self._servers.client

    @property
    def address(self) -> str:
        """Scheme, host, port and database of the server; never a user or a password."""
        return self._servers.address

    def answering_within(self, seconds: float) -> Connector:
        """The same servers, with links that wait no longer than this."""
        return Connector(self._given, seconds)

    def open(self, key: bytes) -> Link:
        """A new link to the server that holds this key."""
        return self._open(self._servers.node_of(key))

    def open_all(self) -> Iterator[tuple[str, Link]]:
        """A new link to each server that holds keys, with its address when there are several."""
        for node in self._servers.nodes():
            yield "" if node is None else node.name, self._open(node)

    def _open(self, node: Any) -> Link:
        return Link(self._servers.connection(node, self._answer_seconds), self.scripts)

    def refresh(self) -> None:
        """Learn anew who holds what, after a cluster said so."""
        self._servers.refresh()

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
        calls = Calls(name, keys, batches, sent)
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
            self._idle.close()  # as old as the one that broke, and each would cost a try
            time.sleep(0.05 * 2**retry)
        raise AssertionError("unreachable")

    def _use_idle(self, key: bytes, use: Callable[[Link], Any]) -> Any:
        node = self._servers.node_of(key) if self.clustered else None
        links = self._idle.of(None if node is None else node.name)
        try:
            link = links.pop()
        except IndexError:
            link = self._open(node)
        try:
            return use(link)
        except BaseException as error:
            if not isinstance(error, RedisUnavailable):  # an interrupt amid a reply
                link.close()
            raise
        finally:
            if link.is_open:
                links.append(link)  # also after a refusal: it is as good as before
                if len(links) > MOST_IDLE:  # looked at behind it: threads that end together do not keep more
                    self._idle.close_oldest(links)
            else:
                link.close()

    def close(self) -> None:
        self._idle.close()
        self._servers.close()
