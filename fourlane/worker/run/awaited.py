"""What a plain function returns to be awaited: awaited to its end, waited for in its thread, or dropped."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from typing import Any, Final

from fourlane.tasks.callables import is_awaitable
from fourlane.worker.run.run import Run

__all__ = ["awaited", "drop", "flush", "to_its_end"]

log = logging.getLogger("fourlane.worker")

_LOOK_SECONDS: Final = 0.1  # what is raised into a waiting thread arrives when it next looks up


async def to_its_end(result: Any) -> Any:
    """What awaiting gives may be something to await again."""
    while result is not None and is_awaitable(result):
        result = await result
    return result


async def flush(run: Run) -> None:
    """Of its output, on the loop; a thread's is flushed by itself."""
    try:
        await run.output.aflush()
    except BaseException:
        log.critical("Unexpected failure in the output of job %s.", run.id, exc_info=True)


class _Waited:
    """An awaitable on the loop for which a thread waits."""

    def __init__(self, awaitable: Any, run: Run) -> None:
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
        result: Any = None
        try:
            if self.cancelled:
                raise asyncio.CancelledError
            result = await to_its_end(self.awaitable)
        except BaseException as raised:
            self.error = raised  # in no variable here: its traceback holds this frame
        if self.run.output_used:
            await flush(self.run)
        self._over(result)

    def _over(self, result: Any) -> None:
        drop(self.awaitable)
        self.result = result
        self.done.set()

    def let_go(self) -> None:
        """The error's traceback holds who waited, and so this; the task's context holds the run."""
        self.awaitable = self.result = self.error = self.task = self.run.task = None


def awaited(awaitable: Any, loop: asyncio.AbstractEventLoop, run: Run) -> Any:
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
