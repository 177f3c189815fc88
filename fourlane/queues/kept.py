"""Whether Redis still has what programs declared to it: schedules and limits.

The hash ``data`` of an environment says which data this is (an id made once) and when a program last declared
something. Who finds it gone, another, or older than it left it knows that Redis lost its data: a restart without
persistence, a failover to an empty node, FLUSHALL, an old snapshot.

A Keeper hears of it at once and asks nothing meanwhile: Redis itself tells when a key changes that was read under
CLIENT TRACKING, and a restart ends the connection. A server that knows no tracking is asked twice a minute.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final, NamedTuple

from fourlane.errors import FourlaneError, RedisUnavailable
from fourlane.queues.redis import Link, is_unsupported
from fourlane.queues.store import Store
from fourlane.readable import readable

__all__ = ["Data", "Keeper", "is_lost", "look"]

log = logging.getLogger("fourlane.kept")

_POLL_SECONDS: Final = 30.0  # where Redis does not tell
_CHECK_SECONDS: Final = 300.0  # a connection may be half open
_AGAIN_SECONDS: Final = 1.0


class Data(NamedTuple):
    """Which data this is. ``id`` empty: nothing was ever declared here. ``lost_ms``: since when it is declared anew."""

    id: str
    declared_ms: int
    lost_ms: int = 0

    def lacks(self, known: Data) -> bool:
        """Whether what was declared to ``known`` is not here."""
        return self.id != known.id or self.declared_ms < known.declared_ms


def look(store: Store, link: Link | None = None) -> Data:
    """The data of now. Raises RedisUnavailable."""
    words = ("HMGET", store.keys.data, "id", "declared_ms", "lost_ms")
    values = store.connector.command(store.keys.data, *words) if link is None else link.command(*words)
    found, declared_ms, lost_ms = values
    return Data(found.decode() if found else "", int(declared_ms or 0), int(lost_ms or 0))


def is_lost(store: Store) -> bool:
    """Whether Redis lacks what running programs declared to it. Raises RedisUnavailable."""
    found = look(store)
    if found.id:
        return found.lost_ms > 0
    with closing(store.connector.open(store.keys.data)) as link:
        try:
            clients = link.command("CLIENT", "LIST")
        except RedisUnavailable as error:
            if is_unsupported(error):
                return False  # it does not say who is there
            raise
    return f" name={_client_name(store)} ".encode() in clients


def _client_name(store: Store) -> str:
    return f"fourlane-keeper.{store.namespace}.{store.environment}"


class Keeper:
    """Declares again what Redis has lost. A thread of its own.

    Parameters:
      declare: writes all that this program declares; when it returns, all is written. It may raise FourlaneError.
    """

    def __init__(self, store: Store, declare: Callable[[], None]) -> None:
        """Raises RedisUnavailable."""
        self._store = store
        self._declare = declare
        self._known = self._note("begin")
        self._pause = _CHECK_SECONDS
        self._stopping = False
        self._out, self._in = socket.socketpair()
        threading.Thread(target=self._run, name="fourlane-keeper", daemon=True).start()

    def stop(self) -> None:
        self._stopping = True
        self._in.close()

    def _run(self) -> None:
        """For as long as the process lives. While Redis is away it tries again and again."""
        link: Link | None = None
        opened_at = -_AGAIN_SECONDS
        while not self._stopping:
            try:
                if link is None:
                    time.sleep(max(0.0, opened_at + _AGAIN_SECONDS - time.monotonic()))
                    opened_at = time.monotonic()
                    link = self._open()
                self._look(link)
                # A word of change may have come with the reply: it is read already, and no socket tells of it.
                if link.has_reply() or readable((link.fileno(), self._out.fileno()), self._pause):
                    link.close()
                    link = None  # it was ended, or the key has changed: a new one is told of the next change
            except RedisUnavailable as error:
                log.debug("%s", error)
                self._forsake(link)
                link = None
            except Exception:
                log.exception("looking after what was declared met an error of its own")
                self._forsake(link)
                link = None
        self._out.close()
        if link is not None:
            link.close()

    def _forsake(self, link: Link | None) -> None:
        """In a cluster another node may be the one to ask."""
        if link is not None:
            link.close()
        try:
            self._store.connector.refresh()
        except RedisUnavailable as error:
            log.debug("%s", error)

    def _open(self) -> Link:
        link = self._store.connector.open(self._store.keys.data)
        _may(link, "CLIENT", "SETNAME", _client_name(self._store))
        tracked = _may(link, "HELLO", 3) and _may(link, "CLIENT", "TRACKING", "ON")
        self._pause = _CHECK_SECONDS if tracked else _POLL_SECONDS
        return link

    def _look(self, link: Link) -> None:
        found = look(self._store, link)
        if found.lacks(self._known):
            what = "no data any more" if not found.id else "older data" if found.id == self._known.id else "other data"
            log.error("Redis has %s, and has lost jobs; declaring schedules and limits again", what)
            self._restore()

    def _restore(self) -> None:
        known = self._note("lost")
        self._store.forget_announced()
        began = time.monotonic()
        try:
            self._declare()
        except RedisUnavailable:
            raise
        except FourlaneError as error:
            log.error("not all was declared again: %s", error)
        self._note("done")
        self._known = known
        log.warning("declared again all schedules and limits, in %.1f s", time.monotonic() - began)

    def _note(self, what: str) -> Data:
        key = self._store.keys.data
        found, declared_ms = self._store.connector.run("kept", (key,), (secrets.token_hex(8), what))
        return Data(found.decode(), int(declared_ms))


def _may(link: Link, *words: object) -> bool:
    """Run a command that a server or a user may lack."""
    try:
        link.command(*words)
    except RedisUnavailable as error:
        if is_unsupported(error):
            return False
        raise
    return True
