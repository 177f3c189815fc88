"""Ends a process whose loops do no work though Redis answers: whoever started it starts a fresh one."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis import Connector

__all__ = ["STUCK", "Watchdog", "ping_of"]

log = logging.getLogger("fourlane.watchdog")

STUCK: Final = 75
"""The exit code: EX_TEMPFAIL of sysexits.h."""
_LOOKS: Final = 6  # while its patience lasts
_LOG_SECONDS: Final = 1.0


class Watchdog:
    """Loops tell it of each round that did what it should, or was refused by somebody who answered; never of one that
    failed for a reason of its own. It does nothing until it is started, but for taking that down.

    Parameters:
      patience_seconds: a loop that was silent for so long is stuck, if Redis answers; well over its longest wait.
      end: ends the process in its own way; by default it ends on the spot.
    """

    def __init__(self, patience_seconds: float = 60.0, end: Callable[[], None] | None = None) -> None:
        self._patience = patience_seconds
        self._end_process = end or _exit
        self._silent_until: dict[int, float] = {}  # by thread: what it asked for

    def kick(self, sleep_seconds: float = 0.0) -> None:
        """The loop of this thread is well, and may be silent for so much longer than usual; ``math.inf``: for ever."""
        self._silent_until[threading.get_ident()] = time.monotonic() + sleep_seconds

    def leave(self) -> None:
        """The loop of this thread is over. One that ends without that is stuck."""
        self._silent_until.pop(threading.get_ident(), None)

    def start(self, ping: Callable[[], None]) -> None:
        """Watch, in a thread. ``ping`` raises RedisUnavailable when Redis does not answer."""
        threading.Thread(target=self._watch, args=(ping,), name="fourlane-watchdog", daemon=True).start()

    def _watch(self, ping: Callable[[], None]) -> None:
        every = self._patience / _LOOKS
        answered: dict[int, float] = {}  # by stuck thread: since when Redis has answered all the time
        before = time.monotonic()
        while True:
            time.sleep(every)
            now = time.monotonic()
            paused, before = now - before > 2 * every, now  # then nobody in this process could do anything
            silent = [] if paused else [ident for ident, until in list(self._silent_until.items())
                                        if now - until > self._patience / 2]  # fmt: skip
            if not silent or not _answers(ping):
                answered = {}
                continue
            answered = {ident: answered.get(ident, now) for ident in silent}
            for ident, since in answered.items():
                if now - since >= self._patience / 2 - every and self._is_silent(ident, now):
                    try:
                        _in_short(self._tell, ident)
                    finally:
                        self._end_process()
                    return

    def _is_silent(self, ident: int, now: float) -> bool:
        """Still, after the ping."""
        return now - self._silent_until.get(ident, math.inf) > self._patience / 2

    def _tell(self, ident: int) -> None:
        frame = sys._current_frames().get(ident)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "its thread has ended\n"
        log.critical("no work for %g s though Redis answers, so this process ends:\n%s", self._patience, stack)


def _exit() -> None:
    try:
        _in_short(logging.shutdown)
    finally:
        os._exit(STUCK)


def _in_short(call: Callable[..., object], *args: object) -> None:
    """For what logs: whoever is stuck may hold the lock of a log for ever."""
    thread = threading.Thread(target=call, args=args, name="fourlane-watchdog-log", daemon=True)
    thread.start()
    thread.join(_LOG_SECONDS)


def ping_of(connector: Connector, key: bytes) -> Callable[[], None]:
    """Asks the server of a key for an answer, on a connection of its own each time."""

    def ping() -> None:
        link = connector.open(key)
        try:
            link.command("PING")
        finally:
            link.close()

    return ping


def _answers(ping: Callable[[], None]) -> bool:
    try:
        ping()
    except RedisUnavailable:
        return False
    except Exception as error:  # of our own: it says nothing of Redis
        _in_short(log.error, "asking Redis for an answer met an error of its own: %r", error)
        return False
    return True
