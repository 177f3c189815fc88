"""The event loop of a worker process: ours, or that of the program's ``AsyncIO``; and how a thread waits on it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from dramatiq.asyncio import EventLoopThread, get_event_loop_thread

from fourlane.tasks.callables import is_awaitable

__all__ = ["EventLoop", "awaited", "drop", "loop_of_dramatiq"]

log = logging.getLogger("fourlane.worker")

_VAIN_STARTS: Final = 100
_LOOK_SECONDS: Final = 0.1  # what is raised into a waiting thread arrives when it next looks up
_STOP_SECONDS: Final = 1.0


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


def loop_of_dramatiq() -> EventLoopThread | None:
    """The loop that middleware of the program has set up."""
    runner = get_event_loop_thread()
    return runner if runner is not None and runner.is_alive() else None


class _Waited:
    """An awaitable on the loop for which a thread waits."""

    def __init__(self, awaitable: Any, run: Any) -> None:
        self.awaitable = awaitable
        self.run = run
        self.done = threading.Event()
        self.task: asyncio.Task[None] | None = None
        self.cancelled = False
        self.result: Any = None
        self.error: BaseException | None = None

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        coroutine = self._whole()
        try:
            self.task = self.run.task = loop.create_task(coroutine)
        except BaseException as error:  # of a task factory that a job has set
            coroutine.close()
            self.error = error
            self._over(None)

    def cancel(self) -> None:
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()

    async def _whole(self) -> None:
        result = self.awaitable
        try:
            if self.cancelled:
                raise asyncio.CancelledError
            while result is not None and is_awaitable(result):
                result = await result
        except BaseException as raised:
            result, self.error = None, raised  # in no variable here: its traceback holds this frame
        if self.run._output is not None:
            try:
                await self.run.output.aflush()
            except BaseException:
                log.critical("Unexpected failure in the output of job %s.", self.run.id, exc_info=True)
        self._over(result)

    def _over(self, result: Any) -> None:
        drop(self.awaitable)
        self.result = result
        self.done.set()

    def let_go(self) -> None:
        """The error's traceback holds who waited, and so this; the task's context holds the run."""
        self.awaitable = self.result = self.error = self.task = self.run.task = None


def awaited(awaitable: Any, loop: asyncio.AbstractEventLoop, run: Any) -> Any:
    """Its result; this thread waits for it, as dramatiq's own do. What is raised into the thread cancels it."""
    waited = _Waited(awaitable, run)
    del awaitable
    try:
        return _wait_for(waited, loop)
    finally:
        waited.let_go()


def _wait_for(waited: _Waited, loop: asyncio.AbstractEventLoop) -> Any:
    try:
        loop.call_soon_threadsafe(waited.begin, loop, context=contextvars.copy_context())
        while not waited.done.wait(_LOOK_SECONDS):
            if loop.is_closed():
                raise RuntimeError("the event loop was closed")
    except BaseException:
        if not loop.is_closed():
            loop.call_soon_threadsafe(waited.cancel)
            while not waited.done.wait(_LOOK_SECONDS) and not loop.is_closed():
                pass  # its ``finally`` clauses are the job's, and run to their end
        raise
    if waited.error is not None:
        raise waited.error
    return waited.result


def drop(awaitable: Any) -> None:
    """Of what is not awaited to its end: its ``finally`` clauses run now."""
    if asyncio.iscoroutine(awaitable):
        try:
            awaitable.close()
        except BaseException as error:
            log.warning("a coroutine could not be closed: %s", type(error).__name__)
