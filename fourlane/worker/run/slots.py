"""The slots: threads that run plain functions, and the backlog that they take them from."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from fourlane.queues.broker import RedisBroker, in_process
from fourlane.tasks.callables import is_awaitable
from fourlane.worker.run.admission import Admission
from fourlane.worker.run.awaited import awaited, drop
from fourlane.worker.run.begin import Begin
from fourlane.worker.run.coroutines import Coroutines
from fourlane.worker.run.finish import Finish
from fourlane.worker.run.interrupt import may_interrupt, raise_in_thread, take_back
from fourlane.worker.run.quietly import log_failure, quietly
from fourlane.worker.run.refill import Refill
from fourlane.worker.run.rows import Rows
from fourlane.worker.run.run import Run

__all__ = ["Slots"]

log = logging.getLogger("fourlane.worker")


class Slots:
    """Each thread runs one job after the other.

    1. It takes a run from the backlog, and a place of its task's share (admission.py).
    2. It begins the run (begin.py) and calls the function. From then until `_end` the run may be interrupted.
    3. It finishes the run (finish.py); or hands it over to the event loop, when the function gave something to await.
    """

    def __init__(
        self,
        broker: RedisBroker,
        number: int,
        *,
        rows: Rows,
        admission: Admission,
        begin: Begin,
        finish: Finish,
        coroutines: Coroutines,
        refill: Refill,
        mislaid: Callable[[], None],
    ) -> None:
        self.number = number
        self.backlog: SimpleQueue[Run | None] = SimpleQueue()
        self.busy: list[Run | None] = [None] * number
        self.threads: list[threading.Thread] = []
        self._locks = [threading.Lock() for _ in range(number)]
        self._broker = broker
        self._rows = rows
        self._admission = admission
        self._begin = begin
        self._finish = finish
        self._coroutines = coroutines
        self._refill = refill
        self._mislaid = mislaid

    def start(self) -> None:
        for slot in range(self.number):
            thread = threading.Thread(target=self._work, args=(slot,), name=f"fourlane-slot-{slot}", daemon=True)
            thread.start()
            self.threads.append(thread)

    def close(self) -> None:
        for _ in self.threads:
            self.backlog.put(None)

    def running(self) -> int:
        return sum(run is not None for run in self.busy)  # not by what a message equals

    def fault(self) -> str:
        """What keeps them from running jobs; empty when nothing does."""
        dead = [thread.name for thread in self.threads if not thread.is_alive()]
        return f"{len(dead)} of {self.number} slots' threads have ended: {', '.join(dead[:3])}" if dead else ""

    def take_back(self) -> list[Run]:
        """The jobs that no thread has begun, to be given back."""
        back: list[Run] = []
        while True:
            try:
                run = self.backlog.get_nowait()
            except Empty:
                return back
            if run is not None:
                back.append(run)

    # A thread -----------------------------------------------------------------------------------------------

    def _work(self, slot: int) -> None:
        self._call_thread_hooks("after_worker_thread_boot")
        fresh = contextvars.copy_context()
        goes_on = True
        while goes_on:
            context = fresh.copy()
            goes_on = context.run(self._work_in, slot, context, len(fresh))
        self._call_thread_hooks("before_worker_thread_shutdown")

    def _work_in(self, slot: int, context: contextvars.Context, known: int) -> bool:
        """Until a job has set context variables, which the next one must not find. False when the thread is to end.

        A context for each job would cost it 200 ns. Where there was no variable before, their number shows it.
        """
        ident = threading.get_ident()
        get, busy, refill = self.backlog.get, self.busy, self._refill
        run: Run | None = None
        clean = 1 if known == 0 else 0  # the one is ``running``
        while True:
            try:
                run = None  # a job that is over is not kept until the next one comes
                run = get()
                if run is None:
                    return False
                if run.plan.gate is None or self._admission.enter(run.plan.gate, slot, run):
                    run.thread = ident
                    busy[slot] = run
                    if run.plan.told:
                        self._run_told(slot, run)
                    elif self._run(slot, run):
                        self._hand_over(slot, run, contextvars.copy_context())
                    busy[slot] = None
                if refill.waiting and self.backlog.qsize() <= refill.low:
                    refill.wake()
            except BaseException:  # of somebody who sent it to this thread; a job may just have come, or ended
                self._lose_hold(slot, run)
            if len(context) > clean:
                return True

    def _lose_hold(self, slot: int, run: Run | None) -> None:
        self.busy[slot] = self._admission.at_gate[slot] = None
        log.critical("A slot's thread met an error of its own.", exc_info=True)
        if run is not None:
            run.leave_gate()
        self._mislaid()

    def _call_thread_hooks(self, signal: str) -> None:
        for hook in self._broker.hooks(signal):
            try:
                hook(self._broker, threading.current_thread())
            except Exception:
                self._broker.logger.critical("Unexpected failure in %r.", hook, exc_info=True)

    # A run --------------------------------------------------------------------------------------------------

    def _run_told(self, slot: int, run: Run) -> None:
        """All that middleware does around it, and its coroutine, are in one context, of its own."""
        context = contextvars.copy_context()
        if context.run(self._run, slot, run):
            self._hand_over(slot, run, context)

    def _run(self, slot: int, run: Run) -> bool:
        """True when it is to go on on the event loop."""
        plan, envelope = run.plan, run.envelope
        result: Any = None
        awaitable: Any = None
        error: BaseException | None = None
        try:
            self._begin.begin(run, slot)
            if plan.bare and not envelope.options:
                result = plan.fn(*envelope.args, **envelope.kwargs)
            else:
                result = self._call_dressed(run)
            if result is not None and is_awaitable(result):
                awaitable, result = result, None
                if plan.keeps_thread:
                    loop = self._coroutines.start_loop()
                    coroutine, awaitable = awaitable, None
                    result = awaited(coroutine, loop, run)
        except BaseException as raised:
            error = raised
        try:
            self._end(slot, run)
        except BaseException as raised:
            # The one interrupt that was sent arrived after the function's end. It still settles this job.
            error = error or raised
            self._end(slot, run)
        if awaitable is not None:
            if error is None:
                run.awaitable = awaitable
                return True
            drop(awaitable)
        self._over(slot, run, result, error)
        error = None  # its traceback holds this frame, and with it all that the function had
        return False

    def _call_dressed(self, run: Run) -> Any:
        try:
            self._begin.dress(run)
            return run.plan.fn(*run.envelope.args, **run.envelope.kwargs)
        finally:
            in_process.message = None

    def _end(self, slot: int, run: Run) -> None:
        """From here on nothing interrupts: what was sent and has not arrived is taken back."""
        with self._locks[slot]:
            run.ended = True
            if run.interrupted is not None:
                take_back(run.thread)

    def _over(self, slot: int, run: Run, result: Any, error: BaseException | None) -> None:
        if run.output_used:
            quietly(run.output.flush)
        if self._rows.table is not None:
            try:  # not by quietly: each job would feel it
                self._rows.table.end(slot)
            except BaseException:
                log_failure(self._rows.table.end)
        self._finish.finish(run, result, error)

    def _hand_over(self, slot: int, run: Run, context: contextvars.Context) -> None:
        """What a plain function returned is to be awaited: on the loop, for its clients and locks belong to that."""
        try:
            self._coroutines.make_room(run)
            with self._locks[slot]:
                run.on_loop, run.interrupted, run.ended = True, run.late_interrupt, False
            run.goes_on_in = context
            quietly(self._rows.move, run, slot)
            self._coroutines.go_on(run, context)
        except BaseException as error:
            self._coroutines.forget(run)
            drop(run.awaitable)
            self._over(slot, run, None, error)

    # From other threads -------------------------------------------------------------------------------------

    def interrupt(self, run: Run, kind: type[BaseException]) -> bool:
        """Raise it in the run's function, once. False when the run has gone over to the event loop."""
        for slot, busy in enumerate(self.busy):
            if busy is run:
                return self._interrupt(slot, run, kind)
        return not run.on_loop

    def _interrupt(self, slot: int, run: Run, kind: type[BaseException]) -> bool:
        with self._locks[slot]:
            if run.on_loop:
                return False
            if run.ended:
                run.late_interrupt = kind  # it may be about to go over to the loop
            elif self.busy[slot] is run and may_interrupt(run, kind):
                run.interrupted, run.deadline = kind, 0.0
                raise_in_thread(run.thread, kind)
            return True

    def abandon(self) -> None:
        """Nothing is told of what has not ended by now."""
        for slot, run in enumerate(self.busy):
            if run is not None:
                with self._locks[slot]:
                    run.abandoned = run.abandoned or not (run.ended or run.on_loop)
