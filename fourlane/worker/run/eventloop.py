"""The event loop of a worker process: ours, or that of the program's ``AsyncIO``."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread

__all__ = ["EventLoop", "Keeper"]

log = logging.getLogger("fourlane.worker")

_VAIN_STARTS: Final = 100
_LOOK_SECONDS: Final = 0.1  # what is raised into a waiting thread arrives when it next looks up
_STOP_SECONDS: Final = 1.0
_PING_SECONDS: Final = 1.0
_DEAF_SECONDS: Final = 60.0  # a coroutine that blocks the event loop for longer than this is no hiccup


class EventLoop(EventLoopThread):
    """Runs for as long as its process, whatever jobs do to it. dramatiq's, so that its ``AsyncIO`` can have it."""

    def __init__(self, cannot_go_on: Callable[[str], None], error_came: Callable[[], None]) -> None:
        """``cannot_go_on`` hears that it does not run any more, ``error_came`` that an error ended it for a moment."""
        loop = _new_loop()  # first: where no descriptor is left, it says so and leaves nothing behind
        super().__init__(log, _LOOK_SECONDS)
        self.loop.close()
        self.loop = loop
        self.name, self.daemon = "fourlane-loop", True
        self._cannot_go_on, self._error_came = cannot_go_on, error_came
        self._stopping = False

    def start(self, *, timeout: float | None = None) -> None:
        """Returns when it runs."""
        ready = threading.Event()
        self.loop.call_soon(ready.set)
        try:
            threading.Thread.start(self)
        except RuntimeError:  # no thread is left
            self.loop.close()
            raise
        if not ready.wait(timeout):
            raise RuntimeError("the event loop did not start")

    def run(self) -> None:
        asyncio.set_event_loop(self.loop)
        vain = 0
        while not self._stopping and not self.loop.is_closed() and vain < _VAIN_STARTS:
            vain = 0 if self._run_until_stopped() else vain + 1
        if not self._stopping:
            self._cannot_go_on("the event loop does not run any more")

    def _run_until_stopped(self) -> bool:
        """Nothing but a job's code ends the loop, and the other jobs on it go on. False when it did not even start."""
        began = time.monotonic()
        error: BaseException | None = None
        try:
            self.loop.run_forever()
        except BaseException as raised:
            # Of a child of a job or of a callback: who awaits the child gets the error besides.
            error = raised
        if self._stopping:
            return True
        what = "loop.stop()" if error is None else type(error).__name__
        log.error("A job's %s ended the event loop; it goes on.", what, exc_info=error)
        if error is not None:
            self._error_came()
        return not isinstance(error, RuntimeError) or time.monotonic() - began > 1.0

    def stop(self) -> None:
        """At the end of the worker. A coroutine that blocks it holds up nobody."""
        self._stopping = True
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)

    def join(self, timeout: float | None = None) -> None:
        super().join(_STOP_SECONDS if timeout is None else timeout)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class Keeper:
    """Has the event loop of this process, from when it is first needed, and knows whether it answers.

    dramatiq's, where a program's middleware has set one up: its pools belong to that. Else one of our own.
    """

    def __init__(self, cannot_go_on: Callable[[str], None], error_came: Callable[[], None]) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._cannot_go_on, self._error_came = cannot_go_on, error_came
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._asked_at = self._answered_at = 0.0

    def start(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self.loop is None:
                runner = _loop_of_dramatiq() or self._own()
                self.loop, self._thread = runner.loop, runner
        return self.loop

    def provide(self) -> None:
        """In place of what ``AsyncIO`` does before a worker boots: its loop is the one on which jobs run."""
        set_event_loop_thread(self._own())

    def _own(self) -> EventLoop:
        runner = EventLoop(self._cannot_go_on, self._error_came)
        runner.start()
        return runner

    @property
    def thread(self) -> int:
        """The id of the thread that it runs in; 0 before it does."""
        return (self._thread.ident if self._thread is not None else None) or 0

    def is_open(self) -> bool:
        return self.loop is not None and not self.loop.is_closed()

    def ping(self, now: float) -> None:
        """Ask it to answer, now and then."""
        if self.loop is not None and self._answered_at >= self._asked_at and now - self._asked_at >= _PING_SECONDS:
            self._asked_at = now
            self.loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._answered_at = time.monotonic()

    def fault(self, *, runs: bool) -> str:
        """What ails it; empty when nothing does. Without a coroutine that ``runs`` nobody misses its answer."""
        if self._thread is not None and not self._thread.is_alive():
            return "the event loop's thread has ended"
        deaf = time.monotonic() - self._asked_at
        if self._asked_at > self._answered_at and deaf > _DEAF_SECONDS and runs:
            return f"the event loop has not answered for {deaf:.0f} s: a coroutine blocks it"
        return ""


def _loop_of_dramatiq() -> EventLoopThread | None:
    """The loop that middleware of the program has set up."""
    runner = get_event_loop_thread()
    return runner if runner is not None and runner.is_alive() else None
