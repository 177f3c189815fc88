"""Coroutines: ``async def`` functions, and what plain ones returned to be awaited, on one event loop."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from dramatiq.middleware import Shutdown

from fourlane.outcome import Outcome
from fourlane.queues.in_process import in_process
from fourlane.tasks.callables import is_awaitable
from fourlane.worker.run.admission import Admission
from fourlane.worker.run.awaited import drop, flush, to_its_end
from fourlane.worker.run.begin import Begin
from fourlane.worker.run.eventloop import Keeper
from fourlane.worker.run.finish import Finish, Owner
from fourlane.worker.run.gate import Gate
from fourlane.worker.run.interrupt import may_interrupt, meaning_of
from fourlane.worker.run.quietly import quietly
from fourlane.worker.run.refill import Refill
from fourlane.worker.run.rows import Rows
from fourlane.worker.run.run import Run

__all__ = ["Coroutines"]

_BEGINS_WITHIN_SECONDS: Final = 1.0  # on a loop that runs
_LAST_STEP_SECONDS: Final = 0.5  # for what ends just as the grace does


class Coroutines:
    """Runs of one process that are on the event loop, or on their way there.

    They are finished there too, unless that may block: where middleware is told, or Redis asked, a thread does it.
    """

    def __init__(
        self,
        owner: Owner,
        *,
        concurrency: int,
        rows: Rows,
        admission: Admission,
        begin: Begin,
        finish: Finish,
        refill: Refill,
        tellers: int,
        cannot_go_on: Callable[[str], None],
    ) -> None:
        self.runs: dict[int, Run] = {}
        self.concurrency = concurrency
        self.keeper = Keeper(cannot_go_on, self._look_for_mislaid)
        self._owner = owner
        self._rows = rows
        self._admission = admission
        self._begin = begin
        self._finish = finish
        self._refill = refill
        self._threads_wait = 0
        self._room = threading.Condition()  # for a thread whose job goes on here, when the loop is full
        self._most_tellers = tellers
        self._tellers: ThreadPoolExecutor | None = None
        self._closed = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        assert self.keeper.loop is not None
        return self.keeper.loop

    def start_loop(self) -> asyncio.AbstractEventLoop:
        return self.keeper.start()

    def close(self) -> None:
        """What ends from now on was given back, and does not count."""
        self._closed = True
        if self._tellers is not None:
            self._tellers.shutdown(wait=False)

    # ``async def`` functions --------------------------------------------------------------------------------

    def spawn(self, runs: list[Run]) -> None:
        """From any thread."""
        self.runs.update((id(run), run) for run in runs)
        self.loop.call_soon_threadsafe(self._spawn, runs)

    def _spawn(self, runs: list[Run]) -> None:
        for run in runs:
            if run.plan.gate is None or self._admission.admit(run.plan.gate, run, self):
                self.launch(run)

    def launch(self, run: Run) -> None:
        loop = self.keeper.loop
        assert loop is not None
        coroutine = self._run(run)
        try:
            run.task = loop.create_task(coroutine)
        except BaseException as error:
            self._not_made(run, coroutine, error)

    def _not_made(self, run: Run, coroutine: Coroutine[Any, Any, None], error: BaseException) -> None:
        """Of a task factory that a job has set."""
        coroutine.close()
        drop(run.awaitable)
        self._over(run, None, error)

    async def _run(self, run: Run) -> None:
        plan, envelope = run.plan, run.envelope
        result: Any = None
        error: BaseException | None = None
        try:
            self._begin.begin(run, self._rows.take())
            if run.interrupted is not None:  # before this coroutine was there to be cancelled
                raise run.interrupted
            if not (plan.bare and not envelope.options):
                try:
                    self._begin.dress(run)
                finally:
                    in_process.message = None  # other coroutines run on this thread meanwhile
                envelope = run.envelope
            result = await plan.fn(*envelope.args, **envelope.kwargs)
            if result is not None and is_awaitable(result):
                result = await to_its_end(result)
        except BaseException as raised:
            result, error = None, meaning_of(run, raised)
        if run.output_used:
            await self._flush(run)
        self._over(run, result, error)
        error = None  # its traceback holds this frame, and with it all that the function had

    # Of plain functions -------------------------------------------------------------------------------------

    def make_room(self, run: Run) -> None:
        """The run's thread waits here until the loop has a place for what its function returned."""
        self.start_loop()
        with self._room:
            self._threads_wait += 1
            self._room.wait_for(lambda: len(self.runs) < self.concurrency)
            self._threads_wait -= 1
            self.runs[id(run)] = run

    def go_on(self, run: Run, context: contextvars.Context) -> None:
        """The run's awaitable is awaited, in this context. From its thread."""
        self.loop.call_soon_threadsafe(self._go_on, run, context)

    def _go_on(self, run: Run, context: contextvars.Context) -> None:
        coroutine = self._await(run)
        try:
            run.task = self.loop.create_task(coroutine, context=context)
        except BaseException as error:
            self._not_made(run, coroutine, error)

    async def _await(self, run: Run) -> None:
        awaitable, run.awaitable = run.awaitable, None
        result: Any = None
        error: BaseException | None = None
        try:
            if run.interrupted is not None:
                raise run.interrupted
            result = await to_its_end(awaitable)
        except BaseException as raised:
            drop(awaitable)
            error = meaning_of(run, raised)
        if run.output_used:
            await self._flush(run)
        self._over(run, result, error)
        error = None  # as in _run

    async def _flush(self, run: Run) -> None:
        run.ended = True  # no interrupt any more
        await flush(run)

    # The end ------------------------------------------------------------------------------------------------

    def _over(self, run: Run, result: Any, error: BaseException | None) -> None:
        plan = run.plan
        is_plain = error is None and plan.bare and not run.envelope.options
        if plan.told or (not is_plain and self._finish.may_block(run, error)):
            # When its coroutine has left the context, which one thread at a time may be in.
            self._rows.leave(run)
            run.ended = True
            self.loop.call_soon(self._finish_in_thread, run, result, error)
        else:
            self._finish.finish(run, result, error)
            self._leave(run)

    def _finish_in_thread(self, run: Run, result: Any, error: BaseException | None) -> None:
        if self._closed:
            return
        if self._tellers is None:
            self._tellers = ThreadPoolExecutor(self._most_tellers, thread_name_prefix="fourlane-tell")
        context = run.goes_on_in or contextvars.copy_context()
        self._tellers.submit(context.run, self._finish_and_leave, run, result, error)

    def _finish_and_leave(self, run: Run, result: Any, error: BaseException | None) -> None:
        self._finish.finish(run, result, error)
        self._leave(run)

    def _leave(self, run: Run) -> None:
        if run.row >= 0:
            self._rows.leave(run)
        self.runs.pop(id(run), None)
        run.task = None  # its context holds the run
        if self._threads_wait:
            with self._room:
                self._room.notify()
        if self._refill.waiting:
            quietly(self._refill.wake)

    def forget(self, run: Run) -> None:
        """It could not go on here; its thread finishes it."""
        self.runs.pop(id(run), None)
        self._rows.leave(run)

    # Shares -------------------------------------------------------------------------------------------------

    def place_is_free(self, gate: Gate) -> None:
        """From any thread."""
        if self.keeper.is_open():
            self.loop.call_soon_threadsafe(self._admission.let_in, gate, self)

    def call_later(self, seconds: float, admission: Admission, gate: Gate) -> None:
        self.loop.call_later(seconds, admission.end_waits, gate, self)

    def dismiss(self, run: Run, outcome: Outcome) -> None:
        self.runs.pop(id(run), None)
        self._owner.finished(run, outcome)
        if self._refill.waiting:
            quietly(self._refill.wake)

    # From other threads -------------------------------------------------------------------------------------

    def interrupt(self, run: Run, kind: type[BaseException]) -> None:
        """Its coroutine is cancelled, once, and meaning_of() says what that meant."""
        if may_interrupt(run, kind) and not run.ended and self.keeper.loop is not None:
            run.interrupted, run.deadline = kind, 0.0
            task = run.task
            if task is not None:
                self.loop.call_soon_threadsafe(task.cancel)

    def abandon(self) -> None:
        """On the loop, between their steps: each has then ended and told it, or will never come to its end."""
        if not self.runs or not self.keeper.is_open():
            return
        done = threading.Event()

        def stop() -> None:
            for run in list(self.runs.values()):
                if not run.ended:
                    run.abandoned = True
                    if run.task is not None and run.interrupted is None:
                        run.interrupted = Shutdown
                        run.task.cancel()
            done.set()

        self.loop.call_soon_threadsafe(stop)
        done.wait(_LAST_STEP_SECONDS)  # longer than that a coroutine blocks it

    def are_cleaning_up(self) -> bool:
        """Whether any that was abandoned has not come to its end."""
        return self.keeper.is_open() and any(run.task is not None for run in list(self.runs.values()))

    # Lost runs ----------------------------------------------------------------------------------------------

    def _look_for_mislaid(self) -> None:
        """An error came to the event loop: it may have taken the place of a job's own step."""
        if self.keeper.loop is not None:
            self.loop.call_later(_BEGINS_WITHIN_SECONDS, self._find_mislaid, list(self.runs.values()))

    def _find_mislaid(self, runs: list[Run]) -> None:
        """Of those that were here when an error came to the loop: jobs that it kept from beginning, or from ending."""
        for run in runs:
            if run.ended:
                continue  # its end is being told, in a thread
            begins = run.started > 0 and not run.on_loop if run.task is None else not run.task.done()
            if not begins and self.runs.get(id(run)) is run:
                drop(run.awaitable)
                run.leave_gate()
                self._leave(run)
                self._owner.mislaid()
