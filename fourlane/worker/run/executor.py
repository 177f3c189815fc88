"""Runs jobs: plain functions in threads, ``async def`` on one event loop.

1. start() takes leased jobs and hands each to a thread or to the loop.
2. The function runs, with its timeout and its cancel token. One that returns something to await, and is not
   ``async def`` itself, goes on on the loop and frees its thread. So does ``async def`` where middleware is told of
   jobs: that is called in threads, before and after. Where it may keep something by the thread, the thread waits.
3. _finish() asks what its end means (conclude.py) and tells the owner.
It knows nothing of Redis.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

import dramatiq
from dramatiq.asyncio import set_event_loop_thread
from dramatiq.middleware import Shutdown, SkipMessage, TimeLimitExceeded

from fourlane import codec, job
from fourlane.errors import Cancelled, FourlaneError, LeaseLost, Reject, UnreadableJob
from fourlane.options import CHECKED, fault_of
from fourlane.outcome import PLAIN, Back, Dead, Outcome, Postpone
from fourlane.queues import ended
from fourlane.queues.broker import RedisBroker, in_process
from fourlane.queues.records import read_record, write_record
from fourlane.queues.turn import Leased
from fourlane.sealing import is_sealed, open_envelope
from fourlane.tasks import ends
from fourlane.tasks.callables import is_awaitable
from fourlane.tasks.context import running
from fourlane.worker.run import unknown
from fourlane.worker.run.conclude import Conclusions, Expired, Skipped
from fourlane.worker.run.ends import Ends
from fourlane.worker.run.eventloop import EventLoop, awaited, drop, loop_of_dramatiq
from fourlane.worker.run.gate import PATIENCE_SECONDS, Gate
from fourlane.worker.run.observer import Observer
from fourlane.worker.run.run import NoPlan, Plan, Run
from fourlane.worker.table import Table

__all__ = ["Executor", "Owner"]

log = logging.getLogger("fourlane.worker")

_WATCH_SECONDS: Final = 0.05
_PING_SECONDS: Final = 1.0
_DEAF_SECONDS: Final = 60.0  # a coroutine that blocks the event loop for longer than this is no hiccup
_BEGINS_WITHIN_SECONDS: Final = 1.0  # on a loop that runs
_LAST_STEP_SECONDS: Final = 0.5  # for what ends just as the grace does
_LOOK_AGAIN_SECONDS: Final = 0.005


class Owner(Protocol):
    """What the executor tells about each job: it began, it ended so."""

    def finished(self, run: Run, outcome: Outcome) -> None: ...

    def mislaid(self) -> None:
        """A job may be in no place any more, though Redis says that it is held here."""


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
        self._at_gate: list[Run | None] = [None] * slots
        self.crowded_at = 0.0  # when a job last found no place of its task's share
        self._leaves = False  # the worker stops: nothing begins any more
        self._looks = False  # whether a run may begin must be looked at: the worker stops, or leases were lost
        self.locks = [threading.Lock() for _ in range(slots)]
        self.async_runs: dict[int, Run] = {}
        self._free_rows = list(range(slots, slots + concurrency))
        self.plans: dict[str, Plan] = {}
        self._no_plan: Any = NoPlan(broker)
        self.loop: asyncio.AbstractEventLoop | None = None
        self._loop_runner: threading.Thread | None = None
        self._starting_loop = threading.Lock()
        self._asked_at = self._answered_at = 0.0
        self._threads_wait = 0
        self._room = threading.Condition()  # for a thread whose job goes on on the loop, when that is full
        self.threads: list[threading.Thread] = []
        self._watcher: threading.Thread | None = None
        self._tellers: ThreadPoolExecutor | None = None
        self._fault = ""
        self.end_process: Callable[[], None] = _end_process
        self.stopping = False
        self.has_async = False
        self.has_plain = False
        self.ends = Ends(broker)

    # Start and hand out -------------------------------------------------------------------------------------

    def boot(self) -> None:
        for actor in self.broker.actors.values():
            self._plan(actor)
        ends.declare(self.broker, is_async=self.has_async and not self.has_plain)
        self._plan(self.broker.actors[ended.TASK])
        if self.has_async:
            self._start_loop()
        if self.has_plain or not self.has_async:
            self._start_threads()
        watcher = threading.Thread(target=self._watch, name="fourlane-watch", daemon=True)
        watcher.start()
        self._watcher = watcher

    def _plan(self, actor: dramatiq.Actor[Any, Any]) -> Plan:
        plan = self.plans[actor.actor_name] = Plan(self.broker, actor)
        if plan.share < 1:
            most = self.concurrency if plan.is_coroutine and not plan.keeps_thread else self.slots
            plan.gate = Gate(max(1, int(plan.share * most)), self._on_free)
        if plan.is_async:
            self.has_async = True
        else:
            self.has_plain = True
        return plan

    def _late_plan(self, name: str) -> Plan | None:
        """Of an actor that was declared since the start."""
        actor = self.broker.actors.get(name)
        if actor is None:
            return None
        try:
            plan = self._plan(actor)
            if plan.is_async:
                self._start_loop()
            elif not self.threads:
                self._start_threads()
        except (FourlaneError, OSError, RuntimeError) as error:  # no descriptor is left, or no thread
            self.plans.pop(name, None)
            log.error("actor %r was declared since the start, and its jobs cannot run: %s", name, error)
            return None
        return plan

    def _start_threads(self) -> None:
        for slot in range(self.slots):
            thread = threading.Thread(target=self._work, args=(slot,), name=f"fourlane-slot-{slot}", daemon=True)
            thread.start()
            self.threads.append(thread)

    def _start_loop(self) -> asyncio.AbstractEventLoop:
        """dramatiq's, where a program's middleware has set one up: its pools belong to that. Else one of our own."""
        with self._starting_loop:
            if self.loop is None:
                runner = loop_of_dramatiq() or self._own_loop()
                self.loop, self._loop_runner = runner.loop, runner
                self.has_async = True
        return self.loop

    def _own_loop(self) -> EventLoop:
        runner = EventLoop(self._cannot_go_on, self._look_for_mislaid)
        runner.start()
        return runner

    def provide_loop(self, broker: dramatiq.Broker, worker: Any) -> None:
        """In place of what ``AsyncIO`` does before a worker boots: its loop is the one on which jobs run."""
        set_event_loop_thread(self._own_loop())

    @property
    def loop_thread(self) -> int:
        return (self._loop_runner.ident if self._loop_runner is not None else None) or 0

    def _look_for_mislaid(self) -> None:
        """An error came to the event loop: it may have taken the place of a job's own step."""
        if self.loop is not None:
            self.loop.call_later(_BEGINS_WITHIN_SECONDS, self._find_mislaid, list(self.async_runs.values()))

    def _find_mislaid(self, runs: list[Run]) -> None:
        """Of those that were here when an error came to the loop: jobs that it kept from beginning, or from ending."""
        for run in runs:
            if run.ended:
                continue  # its end is being told, in a thread
            begins = run.started > 0 and not run.on_loop if run.task is None else not run.task.done()
            if not begins and self.async_runs.get(id(run)) is run:
                drop(run.awaitable)
                run.leave_gate()
                self._leave_loop(run)
                self.owner.mislaid()

    def _cannot_go_on(self, fault: str) -> None:
        """The process would linger with its jobs: it ends instead, and its supervisor starts another."""
        self._fault = fault
        self.broker.logger.critical("The worker's process ends: %s.", fault)
        self.end_process()

    def healthy(self) -> str:
        """What keeps jobs from running or from their time limits; empty when nothing does."""
        if self._fault:
            return self._fault
        if self._loop_runner is not None and not self._loop_runner.is_alive():
            return "the event loop's thread has ended"
        if self._watcher is not None and not self._watcher.is_alive() and not self.stopping:
            return "the thread that watches time limits has ended"
        dead = [] if self.stopping else [thread.name for thread in self.threads if not thread.is_alive()]
        if dead:
            return f"{len(dead)} of {self.slots} slots' threads have ended: {', '.join(dead[:3])}"
        deaf = time.monotonic() - self._asked_at
        if self._asked_at > self._answered_at and deaf > _DEAF_SECONDS and self.async_runs:
            return f"the event loop has not answered for {deaf:.0f} s: a coroutine blocks it"
        return ""

    def start(self, service: Any, jobs: list[Leased]) -> int:
        """Take leased jobs; returns how many are ``async def``. Those that cannot run at all are concluded here."""
        coroutines: list[Run] = []
        put, plans, decode = self.backlog.put, self.plans, codec.decode
        for leased in jobs:
            try:
                envelope = decode(leased.body)
                plan = plans.get(envelope.task) or self._late_plan(envelope.task)
            except UnreadableJob as error:
                self._refuse(service, leased, codec.Envelope(""), Dead("rejected", str(error), leased.record))
                continue
            if plan is None:
                self._refuse(service, leased, envelope, self._park(leased, envelope.task))
                continue
            run = Run(service, leased, envelope, plan)
            if plan.is_async:
                coroutines.append(run)
                self.async_runs[id(run)] = run
            else:
                put(run)
        if coroutines and self.loop is not None:
            self.loop.call_soon_threadsafe(self._spawn, coroutines)
        return len(coroutines)

    def _refuse(self, service: Any, leased: Leased, envelope: codec.Envelope, outcome: Outcome) -> None:
        run = Run(service, leased, envelope, self._no_plan)
        self.owner.finished(run, self.conclusions.refused(run, outcome) if isinstance(outcome, Dead) else outcome)

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

    def is_async(self, leased: Leased) -> bool:
        try:
            plan = self.plans.get(codec.decode(leased.body).task)
        except UnreadableJob:
            return False
        return plan is not None and plan.is_async

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
        # By identity: one that goes over from a thread to the loop is for a moment in both.
        threads = {id(run): run for run in self.busy if run is not None}
        return list((threads | self.async_runs).values())

    # Threads ------------------------------------------------------------------------------------------------

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
        get, busy = self.backlog.get, self.busy
        run: Run | None = None
        clean = 1 if known == 0 else 0  # the one is ``running``
        while True:
            try:
                run = None  # a job that is over is not kept until the next one comes
                run = get()
                if run is None:
                    return False
                if run.plan.gate is None or self._enter(run.plan.gate, slot, run):
                    run.thread = ident
                    busy[slot] = run
                    if run.plan.told:
                        self._run_told(slot, run)
                    elif self._run(slot, run):
                        self._hand_over(slot, run, contextvars.copy_context())
                    busy[slot] = None
                if self.waiting and self.backlog.qsize() <= self.low:
                    self.on_low()
            except BaseException:  # of somebody who sent it to this thread; a job may just have come, or ended
                busy[slot] = self._at_gate[slot] = None
                self.broker.logger.critical("A slot's thread met an error of its own.", exc_info=True)
                if run is not None:
                    run.leave_gate()
                self.owner.mislaid()
            if len(context) > clean:
                return True

    def _enter(self, gate: Gate, slot: int, run: Run) -> bool:
        """Take one of the task's places. None is free in a moment: the job comes again later. False then."""
        self._at_gate[slot] = run
        run.gated = gate.enter(patient=True)
        if not run.gated:
            self.owner.finished(run, Back() if self._leaves else self._crowded(gate, run))
        self._at_gate[slot] = None
        return run.gated

    def _crowded(self, gate: Gate, run: Run) -> Outcome:
        self.crowded_at = time.monotonic()
        run.service.tiers.crowd(run.leased.entry[0], self.crowded_at)
        return Postpone(gate.pause_ms(self.crowded_at))

    def in_hand(self) -> list[Run]:
        """Runs that are no longer in the backlog: they run, or wait for a place of their task."""
        return [*(run for run in self._at_gate if run is not None), *self.running()]

    def _call_thread_hooks(self, signal: str) -> None:
        for hook in self.broker.hooks(signal):
            try:
                hook(self.broker, threading.current_thread())
            except Exception:
                self.broker.logger.critical("Unexpected failure in %r.", hook, exc_info=True)

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
            self._begin(run, slot)
            if plan.bare and not envelope.options:
                result = plan.fn(*envelope.args, **envelope.kwargs)
            else:
                result = self._run_dressed(run)
            if result is not None and is_awaitable(result):
                awaitable, result = result, None
                if plan.keeps_thread:
                    loop = self._start_loop()
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
        self._over_in_thread(slot, run, result, error)
        error = None  # its traceback holds this frame, and with it all that the function had
        return False

    def _over_in_thread(self, slot: int, run: Run, result: Any, error: BaseException | None) -> None:
        if run._output is not None:
            self._quietly(run._output.flush)
        if self.table is not None:
            try:  # not by _quietly: each job would feel it
                self.table.end(slot)
            except BaseException:
                self._log_failure(self.table.end)
        self._finish(run, result, error)

    def _quietly(self, call: Callable[..., Any], *args: Any) -> None:
        """For what belongs to the end of a run, and must not keep its outcome from being told."""
        try:
            call(*args)
        except BaseException:
            self._log_failure(call)

    def _log_failure(self, call: Callable[..., Any]) -> None:
        self.broker.logger.critical("Unexpected failure in %r.", call, exc_info=True)

    def _end(self, slot: int, run: Run) -> None:
        """From here on nothing interrupts: take back what was sent and has not arrived."""
        with self.locks[slot]:
            run.ended = True
            if run.interrupted is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(run.thread), None)

    def _begin(self, run: Run, row: int) -> None:
        plan, options = run.plan, run.envelope.options
        started = run.started = time.monotonic()
        run.row = row
        if self._looks:
            self._look_before(run)
        if self.table is not None and row >= 0:  # where the supervisor finds it when this process dies
            hard = plan.hard_ms
            self.table.begin(row, run.service.number, run.leased.entry.encode(), started + hard / 1000 if hard else 0.0)
        leased = run.leased
        if leased.record or leased.crashes:
            run.attempt = 1 + read_record(leased.record).attempts
            self._mark_suspect(run)
        running.set(run)
        limit = plan.timeout_ms
        if options and not CHECKED.isdisjoint(options):
            fault = fault_of(options)
            if fault:
                raise Reject(f"the job's option {fault}")
            limit = options.get("time_limit") or limit
        if limit:
            run.deadline = started + limit / 1000
        if self._began is not None and options:
            self._began(run)

    def _mark_suspect(self, run: Run) -> None:
        if self.table is not None and run.row >= 0 and run.leased.crashes >= self.broker.store.crash_limit - 1:
            self.table.suspect(run.row)

    def _look_before(self, run: Run) -> None:
        """Raises what ends a run that shall not begin any more."""
        if run.lost:
            raise LeaseLost
        if self._leaves:
            run.context.cancel_token.set("shutdown")
            raise Shutdown

    def _change_row(self, run: Run, slot: int) -> None:
        """In the slot's thread, before that begins the next job: one of the two rows always tells of this one."""
        run.row = row = self._take_row()
        if self.table is not None:
            if row >= 0:  # -1: there was no row left
                hard = run.plan.hard_ms
                deadline = run.started + hard / 1000 if hard else 0.0
                self.table.begin(row, run.service.number, run.leased.entry.encode(), deadline)
                self._mark_suspect(run)
            self.table.end(slot)

    def _run_dressed(self, run: Run) -> Any:
        """With everything that dramatiq's manual describes around the function."""
        try:
            self._before(run)
            return run.plan.fn(*run.envelope.args, **run.envelope.kwargs)
        finally:
            in_process.message = None

    def _before(self, run: Run) -> None:
        plan, options = run.plan, run.envelope.options
        if plan.fault:
            raise Reject(f"the actor's option {plan.fault}")
        if is_sealed(options):
            run.envelope = open_envelope(run.envelope)
            options = run.envelope.options
        in_process.message = run
        max_age = options.get("max_age") or plan.max_age_ms
        if max_age:
            since = job.ready_since_ms(run.leased.entry) or run.envelope.enqueued_ms
            if since and self.broker.store.clock.now_ms() - since >= max_age:
                cause = None if plan.is_task else SkipMessage("Message age limit exceeded")  # dramatiq's own words
                raise Expired(f"it waited longer than {max_age} ms") from cause
        try:
            self.broker.call_hooks(plan.before, (run,), {})
        except SkipMessage as skip:
            raise Skipped from skip
        if run.failed:
            raise Skipped

    # The event loop -----------------------------------------------------------------------------------------

    def _spawn(self, runs: list[Run]) -> None:
        for run in runs:
            gate = run.plan.gate
            if gate is not None:
                run.gated = gate.enter(patient=False)
                if not run.gated:
                    self._wait_at(gate, run)
                    continue
            self._make_task(run)

    def _make_task(self, run: Run) -> None:
        assert self.loop is not None
        coroutine = self._run_async(run)
        try:
            run.task = self.loop.create_task(coroutine)
        except BaseException as error:
            self._not_made(run, coroutine, error)

    def _wait_at(self, gate: Gate, run: Run) -> None:
        """It waits for one of the task's places, if that is for a moment only; else it comes again later."""
        assert self.loop is not None
        if not gate.let_wait(run):
            self._crowd_async(gate, run)
        elif len(gate.waiting) == 1:
            self.loop.call_later(PATIENCE_SECONDS, self._end_waits, gate)

    def _crowd_async(self, gate: Gate, run: Run) -> None:
        self.async_runs.pop(id(run), None)
        self.owner.finished(run, self._crowded(gate, run))
        if self.waiting:
            self._quietly(self.on_low)

    def _on_free(self, gate: Gate) -> None:
        if self.loop is not None and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._let_in, gate)

    def _let_in(self, gate: Gate) -> None:
        while gate.waiting and gate.enter(patient=False):
            _, run = gate.waiting.popleft()
            run.gated = True
            self._make_task(run)

    def _end_waits(self, gate: Gate) -> None:
        assert self.loop is not None
        now = time.monotonic()
        while gate.waiting and gate.waiting[0][0] <= now:
            self._crowd_async(gate, gate.waiting.popleft()[1])
        if gate.waiting:
            self.loop.call_later(max(0.001, gate.waiting[0][0] - now), self._end_waits, gate)

    async def _run_async(self, run: Run) -> None:
        plan, envelope = run.plan, run.envelope
        result: Any = None
        error: BaseException | None = None
        try:
            self._begin(run, self._free_rows.pop() if self._free_rows else -1)  # as _take_row
            if run.interrupted is not None:  # before this coroutine was there to be cancelled
                raise run.interrupted
            if not (plan.bare and not envelope.options):
                try:
                    self._before(run)
                finally:
                    in_process.message = None  # other coroutines run on this thread meanwhile
                envelope = run.envelope
            result = await plan.fn(*envelope.args, **envelope.kwargs)
            while result is not None and is_awaitable(result):
                result = await result
        except BaseException as raised:
            result, error = None, _cause(run, raised)
        if run._output is not None:
            await self._flush(run)
        self._over_on_loop(run, result, error)
        error = None  # as in _run

    async def _flush(self, run: Run) -> None:
        run.ended = True  # no interrupt any more
        try:
            await run.output.aflush()
        except BaseException:
            self.broker.logger.critical("Unexpected failure in the output of job %s.", run.id, exc_info=True)

    def _over_on_loop(self, run: Run, result: Any, error: BaseException | None) -> None:
        plan = run.plan
        is_plain = error is None and plan.bare and not run.envelope.options
        if plan.told or (not is_plain and self.conclusions.asks_redis(run, error)):
            # When its coroutine has left the context, which one thread at a time may be in.
            assert self.loop is not None
            self._free_row(run)
            run.ended = True
            self.loop.call_soon(self._tell_in_thread, run, result, error)
        else:
            self._finish(run, result, error)
            self._leave_loop(run)

    def _tell_in_thread(self, run: Run, result: Any, error: BaseException | None) -> None:
        if self.stopping:
            return  # it was given back, and its end does not count
        if self._tellers is None:
            self._tellers = ThreadPoolExecutor(self.slots, thread_name_prefix="fourlane-tell")
        context = run.goes_on_in or contextvars.copy_context()
        self._tellers.submit(context.run, self._finish_and_leave, run, result, error)

    def _finish_and_leave(self, run: Run, result: Any, error: BaseException | None) -> None:
        """Of a run that was on the event loop; in a thread where middleware is told, or Redis is asked."""
        self._finish(run, result, error)
        self._leave_loop(run)

    def _free_row(self, run: Run) -> None:
        row, run.row = run.row, -1
        if row >= self.slots:  # else it is of the thread that it came from
            if self.table is not None:
                try:
                    self.table.end(row)
                except BaseException:
                    self._log_failure(self.table.end)
            self._free_rows.append(row)

    def _leave_loop(self, run: Run) -> None:
        if run.row >= self.slots:
            self._free_row(run)
        self.async_runs.pop(id(run), None)
        run.task = None  # its context holds the run
        if self._threads_wait:
            with self._room:
                self._room.notify()
        if self.waiting:
            self._quietly(self.on_low)

    def _take_row(self) -> int:
        """A row of the table; -1 when jobs that went over from threads took the last ones."""
        try:
            return self._free_rows.pop()
        except IndexError:
            return -1

    # From a thread to the event loop

    def _hand_over(self, slot: int, run: Run, context: contextvars.Context) -> None:
        """What a plain function returned is to be awaited: on the loop, for its clients and locks belong to that."""
        try:
            loop = self._start_loop()
            with self._room:
                self._threads_wait += 1
                self._room.wait_for(lambda: len(self.async_runs) < self.concurrency)
                self._threads_wait -= 1
                self.async_runs[id(run)] = run
            with self.locks[slot]:
                run.on_loop, run.interrupted, run.ended = True, run.late_interrupt, False
            run.goes_on_in = context
            self._quietly(self._change_row, run, slot)
            loop.call_soon_threadsafe(self._go_on, run, context)
        except BaseException as error:
            self.async_runs.pop(id(run), None)
            self._free_row(run)
            drop(run.awaitable)
            self._over_in_thread(slot, run, None, error)

    def _go_on(self, run: Run, context: contextvars.Context) -> None:
        assert self.loop is not None
        coroutine = self._await(run)
        try:
            run.task = self.loop.create_task(coroutine, context=context)
        except BaseException as error:
            self._not_made(run, coroutine, error)

    def _not_made(self, run: Run, coroutine: Coroutine[Any, Any, None], error: BaseException) -> None:
        """Of a task factory that a job has set."""
        coroutine.close()
        drop(run.awaitable)
        self._over_on_loop(run, None, error)

    async def _await(self, run: Run) -> None:
        result, run.awaitable = run.awaitable, None
        error: BaseException | None = None
        try:
            if run.interrupted is not None:
                raise run.interrupted
            while result is not None and is_awaitable(result):
                result = await result
        except BaseException as raised:
            drop(result)
            result, error = None, _cause(run, raised)
        if run._output is not None:
            await self._flush(run)
        self._over_on_loop(run, result, error)
        error = None  # as in _run

    def _finish(self, run: Run, result: Any, error: BaseException | None) -> None:
        """Its outcome, told to the owner: nothing else that fails here keeps it from that."""
        plan = run.plan
        if error is None and plan.plain and not run.envelope.options and (result is None or not plan.discards):
            outcome: Outcome = PLAIN
        else:
            outcome = self.conclusions.of(run, result, error)
        if error is not None and self.observer is not None:
            self._quietly(self.observer.failed, run, error, outcome)
        if run.abandoned:
            run.let_go()
            return
        try:
            self.owner.finished(run, outcome)
        except BaseException:
            self.broker.logger.critical("The end of job %s could not be told to the loop.", run.id, exc_info=True)
        if self.observer is None and run._exception is not None:
            run.let_go()  # else the observer wants it once more, when the turn is taken
        if run.envelope.options and "scheduled_for" in run.envelope.options:
            self._quietly(self.ends.tell, run, outcome)

    # Time limits and cancelling -----------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self.stopping:
            time.sleep(_WATCH_SECONDS)
            self._quietly(self._look)

    def _look(self) -> None:
        now = time.monotonic()
        for slot, run in enumerate(self.busy):
            if run is not None and 0 < run.deadline <= now:
                self._interrupt_thread(slot, run, TimeLimitExceeded)
        for run in list(self.async_runs.values()):
            if 0 < run.deadline <= now:
                self._interrupt_async(run, TimeLimitExceeded)
        answered = self._answered_at >= self._asked_at
        if self.loop is not None and self.async_runs and answered and now - self._asked_at >= _PING_SECONDS:
            self._asked_at = now
            self.loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._answered_at = time.monotonic()

    def _interrupt_thread(self, slot: int, run: Run, kind: type[BaseException]) -> None:
        with self.locks[slot]:
            if run.on_loop:
                self._interrupt_async(run, kind)
            elif run.ended:
                run.late_interrupt = kind  # it may be about to go over to the loop
            elif self.busy[slot] is run and _may_interrupt(run, kind):
                run.interrupted, run.deadline = kind, 0.0
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(run.thread), ctypes.py_object(kind))

    def _interrupt_async(self, run: Run, kind: type[BaseException]) -> None:
        if _may_interrupt(run, kind) and not run.ended and self.loop is not None:
            run.interrupted, run.deadline = kind, 0.0
            task = run.task
            if task is not None:
                self.loop.call_soon_threadsafe(task.cancel)

    def cancel(self, job_ids: set[str]) -> None:
        """Tell running jobs that they were cancelled, and interrupt them: those told of a stop before too."""
        for run in self.running():
            token = run.context.cancel_token
            if job.id_of_entry(run.leased.entry) in job_ids and token.reason in ("", "shutdown"):
                token.set("cancelled")
                self._interrupt(run, Cancelled)

    def lease_lost(self, runs: list[Run]) -> None:
        """Tell running jobs that they run elsewhere by now, and interrupt them: their end does not count any more."""
        for run in runs:
            run.lost = self._looks = True
            run.context.cancel_token.set("lease_lost")
            self._interrupt(run, LeaseLost)

    def tell_shutdown(self) -> None:
        """Tell running jobs that the worker stops; interrupt those that asked for it."""
        self._leaves = self._looks = True
        for run in self.running():
            if not run.context.cancel_token:
                run.context.cancel_token.set("shutdown")
                if run.plan.notify_shutdown or run.envelope.options.get("notify_shutdown"):
                    self._interrupt(run, Shutdown)

    def _interrupt(self, run: Run, kind: type[BaseException]) -> None:
        if run.plan.is_async or run.on_loop:
            self._interrupt_async(run, kind)
        else:
            for slot, busy in enumerate(self.busy):
                if busy is run:
                    self._interrupt_thread(slot, run, kind)

    def abandon(self) -> list[Run]:
        """Leave what has not ended, and tell nothing of it from now on. What has just ended is told first."""
        self._abandon_coroutines()
        for slot, run in enumerate(self.busy):
            if run is not None:
                with self.locks[slot]:
                    run.abandoned = run.abandoned or not (run.ended or run.on_loop)
        deadline = time.monotonic() + _LAST_STEP_SECONDS
        while any(not (run.abandoned or run.ended_at) for run in self.running()) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
        left = self.running()
        for run in left:
            run.abandoned = True
        return [run for run in left if not run.ended_at]

    def _abandon_coroutines(self) -> None:
        """On the loop, between their steps: each has then ended and told it, or will never come to its end."""
        if self.loop is None or not self.async_runs or self.loop.is_closed():
            return
        done = threading.Event()

        def stop() -> None:
            for run in list(self.async_runs.values()):
                if not run.ended:
                    run.abandoned = True
                    if run.task is not None and run.interrupted is None:
                        run.interrupted = Shutdown
                        run.task.cancel()
            done.set()

        self.loop.call_soon_threadsafe(stop)
        done.wait(_LAST_STEP_SECONDS)  # longer than that a coroutine blocks it

    def close(self) -> None:
        self.stopping = True
        for _ in self.threads:
            self.backlog.put(None)
        self.conclusions.close()
        if self._tellers is not None:
            self._tellers.shutdown(wait=False)
        self.ends.close(timeout_seconds=2.0)


def _may_interrupt(run: Run, kind: type[BaseException]) -> bool:
    """Once is enough, but a stop leaves a job its grace, and a cancel ends that."""
    return run.interrupted is None or (run.interrupted is Shutdown and kind is Cancelled)


def _cause(run: Run, raised: BaseException) -> BaseException:
    """What an interrupt meant, which reaches a coroutine as a cancelling."""
    if run.interrupted is not None and isinstance(raised, asyncio.CancelledError):
        return run.interrupted()
    return raised


def _end_process() -> None:
    os._exit(1)


def _now_ms() -> int:
    return int(time.time() * 1000)
