"""Runs jobs: plain functions in threads, ``async def`` on one event loop.

1. start() takes leased jobs and hands each to a thread or to the loop.
2. The function runs, with its timeout and its cancel token.
3. _finish() asks what its end means (conclude.py) and tells the owner.
It knows nothing of Redis.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

from dramatiq.middleware import Shutdown, SkipMessage, TimeLimitExceeded

from fourlane import codec, job
from fourlane.errors import Cancelled, UnreadableJob
from fourlane.outcome import PLAIN, Dead, Outcome, Postpone
from fourlane.queues.broker import RedisBroker, in_process, read_record, write_record
from fourlane.queues.store import Leased
from fourlane.sealing import is_sealed, open_envelope
from fourlane.tasks.context import running
from fourlane.worker import unknown
from fourlane.worker.conclude import Conclusions, Expired, Skipped
from fourlane.worker.ends import Ends
from fourlane.worker.observer import Observer
from fourlane.worker.run import NO_PLAN, Plan, Run
from fourlane.worker.table import Table

__all__ = ["Executor", "Owner"]

_WATCH_SECONDS: Final = 0.05


class Owner(Protocol):
    """What the executor tells about each job: it began, it ended so."""

    def finished(self, run: Run, outcome: Outcome) -> None: ...


class Executor:
    """Threads, one event loop, and the watch over time limits."""

    def __init__(
        self,
        broker: RedisBroker,
        owner: Owner,
        *,
        slots: int,
        concurrency: int,
        table: Table | None = None,
        worker: str = "",
        on_low: Callable[[], None],
        observer: Observer | None = None,
    ) -> None:
        self.broker = broker
        self.owner = owner
        self.slots = slots
        self.concurrency = concurrency
        self.table = table
        self.conclusions = Conclusions(broker, worker)
        self.on_low = on_low
        self.observer = observer
        self._began = observer.began if observer is not None and observer.begins else None
        self.low = 0
        self.waiting = False
        self.backlog: SimpleQueue[Run | None] = SimpleQueue()
        self.busy: list[Run | None] = [None] * slots
        self.locks = [threading.Lock() for _ in range(slots)]
        self.async_runs: dict[int, Run] = {}
        self._free_rows = list(range(slots, slots + concurrency))
        self.plans: dict[str, Plan] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self.loop_thread = 0
        self.threads: list[threading.Thread] = []
        self.stopping = False
        self.has_async = False
        self.has_plain = False
        self.ends = Ends(broker)

    # Start and hand out -------------------------------------------------------------------------------------

    def boot(self) -> None:
        for actor in self.broker.actors.values():
            plan = self.plans[actor.actor_name] = Plan(self.broker, actor)
            if plan.share < 1:
                plan.places = max(1, int(plan.share * (self.concurrency if plan.is_async else self.slots)))
            if plan.is_async:
                self.has_async = True
            else:
                self.has_plain = True
        if self.has_async:
            ready = threading.Event()
            threading.Thread(target=self._run_loop, args=(ready,), name="fourlane-loop", daemon=True).start()
            ready.wait()
        if self.has_plain or not self.has_async:
            for slot in range(self.slots):
                thread = threading.Thread(target=self._work, args=(slot,), name=f"fourlane-slot-{slot}", daemon=True)
                thread.start()
                self.threads.append(thread)
        threading.Thread(target=self._watch, name="fourlane-watch", daemon=True).start()

    def _run_loop(self, ready: threading.Event) -> None:
        try:
            import uvloop

            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        except ImportError:
            loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self.loop, self.loop_thread = loop, threading.get_ident()
        loop.call_soon(ready.set)
        loop.run_forever()

    def start(self, lane: Any, jobs: list[Leased]) -> int:
        """Take leased jobs; returns how many are ``async def``. Those that cannot run at all are concluded here."""
        coroutines: list[Run] = []
        put, plans, decode = self.backlog.put, self.plans, codec.decode
        for leased in jobs:
            try:
                envelope = decode(leased.body)
                plan = plans.get(envelope.task)
            except UnreadableJob as error:
                self._refuse(lane, leased, Dead("rejected", str(error), leased.record))
                continue
            if plan is None:
                self._refuse(lane, leased, self._park(leased, envelope.task))
                continue
            run = Run(lane, leased, envelope, plan)
            if plan.places:
                if plan.is_full:
                    lane.over_share(leased, plan)
                    continue
                plan.held.add(id(run))
            if plan.is_async:
                coroutines.append(run)
                self.async_runs[id(run)] = run
            else:
                put(run)
        if coroutines and self.loop is not None:
            self.loop.call_soon_threadsafe(self._spawn, coroutines)
        return len(coroutines)

    def _refuse(self, lane: Any, leased: Leased, outcome: Outcome) -> None:
        run = Run(lane, leased, codec.Envelope(""), NO_PLAN)
        self.owner.finished(run, outcome)

    def _park(self, leased: Leased, name: str) -> Outcome:
        """A task that nobody here knows: another version may. Back after a pause, dead after 24 h."""
        record, now = read_record(leased.record), _now_ms()
        since = record.unknown_since_ms or now
        if now - since >= unknown.DEAD_AFTER_MS:
            return Dead("unknown-task", f"no worker knew the task {name!r} for 24 h", write_record(record))
        record.unknown_since_ms, record.unknown_tries = since, record.unknown_tries + 1
        return Postpone(unknown.pause_ms(now - since, record.unknown_tries), write_record(record), name)

    def free(self) -> tuple[int, int]:
        """Free threads, and free places on the event loop."""
        threads = self.slots - self.running_threads() if self.threads else 0
        return threads, self.concurrency - len(self.async_runs) if self.has_async else 0

    def running_threads(self) -> int:
        return self.slots - self.busy.count(None)

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

    def running(self) -> list[Run]:
        return [run for run in self.busy if run is not None] + list(self.async_runs.values())

    # Threads ------------------------------------------------------------------------------------------------

    def _work(self, slot: int) -> None:
        for hook in self.broker.hooks("after_worker_thread_boot"):
            hook(self.broker, threading.current_thread())
        ident = threading.get_ident()
        get, busy = self.backlog.get, self.busy
        while True:
            try:
                run = get()
                if run is None:
                    break
                run.thread = ident
                busy[slot] = run
                self._run(slot, run)
                busy[slot] = None
                if self.waiting and self.backlog.qsize() <= self.low:
                    self.on_low()
            except Exception:
                busy[slot] = None
                self.broker.logger.critical("A slot's thread met an error of its own.", exc_info=True)
        for hook in self.broker.hooks("before_worker_thread_shutdown"):
            hook(self.broker, threading.current_thread())

    def _run(self, slot: int, run: Run) -> None:
        plan, envelope = run.plan, run.envelope
        result: Any = None
        error: BaseException | None = None
        self._begin(run, slot)
        try:
            if plan.bare and not envelope.options:
                result = plan.fn(*envelope.args, **envelope.kwargs)
            else:
                result = self._run_dressed(run)
        except BaseException as raised:
            error = raised
        try:
            self._end(slot, run)
        except BaseException as raised:
            # The one interrupt that was sent arrived after the function's end. It still settles this job.
            error = error or raised
            self._end(slot, run)
        if run._output is not None:
            run._output.flush()
        if self.table is not None:
            self.table.end(slot)
        self._finish(run, result, error)

    def _end(self, slot: int, run: Run) -> None:
        """From here on nothing interrupts: take back what was sent and has not arrived."""
        with self.locks[slot]:
            run.ended = True
            if run.interrupted is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(run.thread), None)

    def _begin(self, run: Run, row: int) -> None:
        plan, envelope = run.plan, run.envelope
        started = run.started = time.monotonic()
        run.row = row
        limit = envelope.options.get("time_limit") or plan.timeout_ms if envelope.options else plan.timeout_ms
        if limit:
            run.deadline = started + limit / 1000
        table = self.table
        if table is not None:
            hard = plan.hard_ms
            table.begin(row, run.lane.number, run.leased.entry.encode(), started + hard / 1000 if hard else 0.0)
        leased = run.leased
        if leased.record or leased.crashes:
            run.attempt = 1 + read_record(leased.record).attempts
        running.set(run)
        if self._began is not None and envelope.options:
            self._began(run)

    def _run_dressed(self, run: Run) -> Any:
        """With everything that dramatiq's manual describes around the function."""
        self._before(run)
        return run.plan.fn(*run.envelope.args, **run.envelope.kwargs)

    def _before(self, run: Run) -> None:
        plan, options = run.plan, run.envelope.options
        if is_sealed(options):
            run.envelope = open_envelope(run.envelope)
            options = run.envelope.options
        in_process.message = run
        max_age = options.get("max_age") or plan.max_age_ms
        if max_age and _now_ms() - run._message.message_timestamp >= max_age:
            raise Expired(f"it waited longer than {max_age} ms")
        try:
            self.broker.call_hooks(plan.before, (run,), {})
        except SkipMessage as skip:
            raise Skipped from skip
        if run.failed:
            raise Skipped

    # The event loop -----------------------------------------------------------------------------------------

    def _spawn(self, runs: list[Run]) -> None:
        loop = self.loop
        assert loop is not None
        for run in runs:
            run.task = loop.create_task(self._run_async(run))

    async def _run_async(self, run: Run) -> None:
        plan, envelope = run.plan, run.envelope
        result: Any = None
        error: BaseException | None = None
        row = self._free_rows.pop()
        self._begin(run, row)
        try:
            if not (plan.bare and not envelope.options):
                self._before(run)
                in_process.message = None  # other coroutines run on this thread meanwhile
                envelope = run.envelope
            coroutine: Coroutine[Any, Any, Any] = plan.fn(*envelope.args, **envelope.kwargs)
            result = await coroutine
        except BaseException as raised:
            error = raised
            if run.interrupted is not None and isinstance(raised, asyncio.CancelledError):
                error = run.interrupted()
        if run._output is not None:
            await run._output.aflush()
        if self.table is not None:
            self.table.end(row)
        self._free_rows.append(row)
        self._finish(run, result, error)
        self.async_runs.pop(id(run), None)
        if self.waiting:
            self.on_low()

    def _finish(self, run: Run, result: Any, error: BaseException | None) -> None:
        conclusions = self.conclusions
        try:
            if error is None and run.plan.bare and not run.envelope.options:
                outcome = conclusions.success(run, result) if run.plan.result_ttl_ms else PLAIN
            else:
                outcome = conclusions.of(run, result, error)
        except BaseException as raised:
            outcome = conclusions.failure(run, raised)
        finally:
            in_process.message = None
        if error is not None and self.observer is not None:
            self.observer.failed(run, error, outcome)
        if not run.abandoned:
            self.owner.finished(run, outcome)
            if run.envelope.options and "scheduled_for" in run.envelope.options:
                self.ends.tell(run, outcome)

    # Time limits and cancelling -----------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self.stopping:
            time.sleep(_WATCH_SECONDS)
            now = time.monotonic()
            for slot, run in enumerate(self.busy):
                if run is not None and 0 < run.deadline <= now:
                    self._interrupt_thread(slot, run, TimeLimitExceeded)
            for run in list(self.async_runs.values()):
                if 0 < run.deadline <= now:
                    self._interrupt_async(run, TimeLimitExceeded)

    def _interrupt_thread(self, slot: int, run: Run, kind: type[BaseException]) -> None:
        with self.locks[slot]:
            if self.busy[slot] is run and not run.ended and run.interrupted is None:
                run.interrupted, run.deadline = kind, 0.0
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(run.thread), ctypes.py_object(kind))

    def _interrupt_async(self, run: Run, kind: type[BaseException]) -> None:
        if run.interrupted is None and self.loop is not None:
            run.interrupted, run.deadline = kind, 0.0
            if run.task is not None:
                self.loop.call_soon_threadsafe(run.task.cancel)

    def cancel(self, job_ids: set[str]) -> None:
        """Tell running jobs that they were cancelled, and interrupt them."""
        for run in self.running():
            if job.id_of_entry(run.leased.entry) in job_ids and not run.context.cancel_token:
                run.context.cancel_token.set("cancelled")
                self._interrupt(run, Cancelled)

    def lease_lost(self, runs: list[Run]) -> None:
        """Tell running jobs that they run elsewhere too, and interrupt them."""
        for run in runs:
            if not run.context.cancel_token:
                run.context.cancel_token.set("lease_lost")
                self._interrupt(run, Cancelled)

    def tell_shutdown(self) -> None:
        """Tell running jobs that the worker stops; interrupt those that asked for it."""
        for run in self.running():
            if not run.context.cancel_token:
                run.context.cancel_token.set("shutdown")
                if run.plan.notify_shutdown or run.envelope.options.get("notify_shutdown"):
                    self._interrupt(run, Shutdown)

    def _interrupt(self, run: Run, kind: type[BaseException]) -> None:
        if run.plan.is_async:
            self._interrupt_async(run, kind)
        else:
            self._interrupt_thread(run.row, run, kind)

    def close(self) -> None:
        self.stopping = True
        for _ in self.threads:
            self.backlog.put(None)
        self.ends.close(timeout_seconds=2.0)


def _now_ms() -> int:
    return int(time.time() * 1000)
