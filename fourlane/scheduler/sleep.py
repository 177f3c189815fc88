"""How a scheduler sleeps: until a moment, until a schedule was edited, or until it is stopped."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from fourlane.queues.redis import Link, blocks_for
from fourlane.queues.store import Store
from fourlane.watchdog import Watchdog

__all__ = ["Sleep"]

_WAIT_SECONDS: Final = 120.0
_SILENT_SECONDS: Final = 5.0
_SHORT_SECONDS: Final = 0.05  # not worth a blocking call


class Sleep:
    """One blocking call every two minutes hears of edits, however often it is slept meanwhile.

    Parameters:
      silent: called when Redis did not answer the blocking call in time; closes this one's connection too.
    """

    def __init__(self, store: Store, watchdog: Watchdog, silent: Callable[[], None]) -> None:
        self._store = store
        self._watchdog = watchdog
        self._silent = silent
        self._link: Link | None = None
        self._waits_until = 0.0  # the end of the blocking call that Redis holds
        self._out, self._in = socket.socketpair()
        self._in.setblocking(False)
        self.stopping = False

    def stop(self) -> None:
        """End it, now and for good; from any thread, and from signal handlers."""
        self.stopping = True
        try:
            self._in.send(b"x")
        except OSError:
            pass  # it is full of such bytes, or is closed

    def sleep(self, seconds: float) -> bool:
        """True: a schedule was edited."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.stopping:
            if left < _SHORT_SECONDS:
                self.rest(left)
            elif self._hears_of_edits(left):
                return True
        return False

    def rest(self, seconds: float) -> None:
        """With no ear for edits."""
        _readable((self._out.fileno(),), max(0.0, seconds))

    def close_link(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link, self._waits_until = None, 0.0

    def close(self) -> None:
        self.close_link()
        self._out.close()
        self._in.close()

    def _hears_of_edits(self, seconds: float) -> bool:
        link = self._waiting_link()
        fd, stop = link.fileno(), self._out.fileno()
        silent_at = self._waits_until + _SILENT_SECONDS
        wait = max(0.0, min(seconds, silent_at - time.monotonic()))
        self._watchdog.kick(wait)
        if fd in _readable((fd, stop), wait):
            self._waits_until = 0.0
            return link.receive() is not None
        if time.monotonic() >= silent_at:
            self._silent()  # a new connection tells what is wrong
        return False

    def _waiting_link(self) -> Link:
        """The one on which Redis holds a blocking call."""
        key = self._store.keys.edits
        if self._link is None:
            self._link = self._store.connector.open(key)
            self._waits_until = 0.0
        if not self._waits_until:
            now = time.monotonic()
            self._link.send("BZPOPMIN", key, blocks_for(_WAIT_SECONDS))
            self._waits_until = now + _WAIT_SECONDS
        return self._link


def _readable(fds: tuple[int, ...], seconds: float) -> set[int]:
    poll = select.poll()  # select() knows no numbers over 1023
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(math.ceil(seconds * 1000))}
