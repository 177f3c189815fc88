"""Runs jobs to their outcomes: plain functions in threads, ``async def`` on one event loop.

1. start() takes leased jobs and hands each to a thread or to the loop.
2. The function runs, with its timeout and its cancel token.
3. _conclude() turns what happened into an Outcome (retry.py judges errors) and hands it to ``finished``.
It knows nothing of Redis: what it enqueues, it enqueues through the broker.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

import dramatiq
from dramatiq.broker import MessageProxy
from dramatiq.middleware import (
    AgeLimit,
    Callbacks,
    Pipelines,
    Retries,
    Shutdown,
    ShutdownNotifications,
    SkipMessage,
    TimeLimit,
    TimeLimitExceeded,
)

from fourlane import codec, job
from fourlane.errors import Cancelled, RateLimited, Snooze, Steering, UnreadableJob
from fourlane.outcome import Back, Cancel, Dead, Done, Outcome, Postpone, Result, Retry
from fourlane.queues.broker import RedisBroker, in_process, message_of, read_record, write_record
from fourlane.queues.store import Leased
from fourlane.retry import Backoff, Policy, judge
from fourlane.tasks.context import CurrentJob, _current
from fourlane.tasks.task import Task
from fourlane.worker.table import Table

__all__ = ["Executor", "Run"]

_UNKNOWN_RETRY_MS: Final = 30_000
_UNKNOWN_DEAD_MS: Final = 24 * 3_600_000
_WATCH_SECONDS: Final = 0.05
_TRACEBACK_CHARACTERS: Final = 8_000
_DONE: Final = Done()


class Owner(Protocol):
    """What the executor tells about each job: it began, it ended so."""

    def finished(self, run: Run, outcome: Outcome) -> None: ...


class Run(MessageProxy):
    """One job in this process. A dramatiq MessageProxy, for middleware sees it as its message."""

    __slots__ = (
        "_built",
        "abandoned",
        "attempt",
        "context",
        "deadline",
        "ended",
        "enqueued_again",
        "envelope",
        "epoch",
        "interrupted",
        "lane",
        "leased",
        "plan",
        "row",
        "started",
        "task",
        "thread",
    )  # fmt: skip

    def __init__(self, lane: Any, leased: Leased, envelope: codec.Envelope, plan: Plan) -> None:
        self.lane = lane
        self.epoch = lane.epoch
        self.leased = leased
        self.envelope = envelope
        self.plan = plan
        self.failed = False
        self.abandoned = False
        self.ended = False  # the function is over: no interrupt may be sent any more
        self.interrupted: type[BaseException] | None = None
        self.enqueued_again: tuple[dramatiq.Message[Any], int | None] | None = None
        self.context: CurrentJob | None = None
        self.deadline = 0.0
        self.row = -1
        self.attempt = 1
        self.started = 0.0
        self._exception: BaseException | None = None
        self._built: dramatiq.Message[Any] | None = None
        self.task: asyncio.Task[None] | None = None
        self.thread = 0

    @property
    def _message(self) -> dramatiq.Message[Any]:  # type: ignore[override]
        """Built when a middleware or an error first needs it: most jobs never do."""
        if self._built is None:
            self._built = message_of(self.plan.broker, self.lane.service, self.leased)
        return self._built

    @property
    def id(self) -> str:
        return job.message_id_of(job.id_of_entry(self.leased.entry))


class Plan:
    """All that does not change from one job of a task to the next."""

    def __init__(self, broker: RedisBroker, actor: dramatiq.Actor[Any, Any]) -> None:
        self.broker = broker
        self.actor = actor
        self.name = actor.actor_name
        options = actor.options
        self.options = options
        defaults = broker.opened.defaults
        native = {type(m): m for m in broker.middleware}
        function = actor.original if isinstance(actor, Task) else inspect.unwrap(actor.fn)
        self.is_async = inspect.iscoroutinefunction(function)
        self.fn = function if self.is_async else actor.fn
        self.is_task = isinstance(actor, Task)
        limit: Any = options.get("time_limit")
        if limit is None:
            if self.is_task:
                limit = defaults.timeout_ms
            else:
                time_limit = native.get(TimeLimit)
                limit = time_limit.time_limit if isinstance(time_limit, TimeLimit) else None
        self.timeout_ms: float | None = limit
        age = native.get(AgeLimit)
        self.max_age_ms = options.get("max_age", age.max_age if isinstance(age, AgeLimit) else None)
        self.hard_ms = options.get("hard_timeout_ms", defaults.hard_timeout_ms)
        self.result_ttl_ms = options.get("result_ttl_ms", defaults.result_ttl_ms if self.is_task else 0)
        self.callbacks = native.get(Callbacks)
        self.pipelines = native.get(Pipelines)
        self.retries = native.get(Retries)
        shutdown = native.get(ShutdownNotifications)
        told = shutdown.notify_shutdown if isinstance(shutdown, ShutdownNotifications) else False
        self.notify_shutdown = bool(options.get("notify_shutdown", told))
        self.has_callbacks = bool(options.get("on_success") or options.get("on_failure"))
        self.before = broker.hooks("before_process_message", native=False)
        self.after = broker.hooks("after_process_message", native=False)
        self.hooked = bool(
            self.before
            or self.after
            or broker.hooks("before_ack", native=False)
            or broker.hooks("after_ack", native=False)
        )
        throws = options.get("throws") or ()
        self.policy = Policy(
            max_retries=options.get("max_retries", defaults.max_retries),
            backoff=options.get("backoff") or Backoff(
                options.get("min_backoff", defaults.min_backoff_ms),
                max(options.get("min_backoff", 0), options.get("max_backoff", defaults.max_backoff_ms)),
            ),
            throws=throws if isinstance(throws, tuple) else (throws,),
            retry_when=options.get("retry_when"),
        )  # fmt: skip
        # The bare path: nothing but the function itself.
        self.bare = not (self.hooked or self.has_callbacks or self.max_age_ms or self.hard_ms)


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
    ) -> None:
        self.broker = broker
        self.owner = owner
        self.slots = slots
        self.concurrency = concurrency
        self.table = table
        self.worker = worker
        self.on_low = on_low
        self.low = 0
        self.waiting = False
        self.backlog: SimpleQueue[Run | None] = SimpleQueue()
        self.busy: list[Run | None] = [None] * slots
        self.locks = [threading.Lock() for _ in range(slots)]
        self.async_runs: dict[int, Run] = {}
        self._free_rows = list(range(slots, slots + concurrency))
        self.plans: dict[str, Plan] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self.threads: list[threading.Thread] = []
        self.stopping = False
        self.has_async = False
        self.has_plain = False

    # Start and hand out -------------------------------------------------------------------------------------

    def boot(self) -> None:
        for actor in self.broker.actors.values():
            plan = self.plans[actor.actor_name] = Plan(self.broker, actor)
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
        self.loop = loop
        loop.call_soon(ready.set)
        loop.run_forever()

    def start(self, lane: Any, jobs: list[Leased]) -> None:
        """Take leased jobs. Those that cannot run at all are concluded here."""
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
            if plan.is_async:
                coroutines.append(run)
                self.async_runs[id(run)] = run
            else:
                put(run)
        if coroutines and self.loop is not None:
            self.loop.call_soon_threadsafe(self._spawn, coroutines)

    def _refuse(self, lane: Any, leased: Leased, outcome: Outcome) -> None:
        run = Run(lane, leased, codec.Envelope(""), _NO_PLAN)
        self.owner.finished(run, outcome)

    def _park(self, leased: Leased, name: str) -> Outcome:
        """A task that nobody here knows: another version may. Back after 30 s, dead after 24 h."""
        record, now = read_record(leased.record), _now_ms()
        since = record.unknown_since_ms or now
        if now - since >= _UNKNOWN_DEAD_MS:
            return Dead("unknown-task", f"no worker knew the task {name!r} for 24 h", write_record(record))
        record.unknown_since_ms = since
        return Postpone(_UNKNOWN_RETRY_MS, write_record(record), name)

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
        if self.table is not None:
            hard = plan.hard_ms
            self.table.begin(row, run.lane.number, run.leased.entry.encode(), started + hard / 1000 if hard else 0.0)
        job_id = job.id_of_entry(run.leased.entry)
        run.attempt = 1
        if run.leased.record or run.leased.crashes:
            run.attempt += read_record(run.leased.record).attempts
        run.context = CurrentJob(
            job.message_id_of(job_id), plan.name, run.lane.service, run.attempt, envelope.enqueued_ms
        )
        _current.set(run.context)

    def _run_dressed(self, run: Run) -> Any:
        """With everything that dramatiq's manual describes around the function."""
        self._before(run)
        return run.plan.fn(*run.envelope.args, **run.envelope.kwargs)

    def _before(self, run: Run) -> None:
        plan, options = run.plan, run.envelope.options
        in_process.message = run
        max_age = options.get("max_age") or plan.max_age_ms
        if max_age and _now_ms() - run._message.message_timestamp >= max_age:
            raise _Expired(f"it waited longer than {max_age} ms")
        try:
            self.broker.call_hooks(plan.before, (run,), {})
        except SkipMessage as skip:
            raise _Skipped from skip
        if run.failed:
            raise _Skipped

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
            coroutine: Coroutine[Any, Any, Any] = plan.fn(*envelope.args, **envelope.kwargs)
            result = await coroutine
        except BaseException as raised:
            error = raised
            if run.interrupted is not None and isinstance(raised, asyncio.CancelledError):
                error = run.interrupted()
        if self.table is not None:
            self.table.end(row)
        self._free_rows.append(row)
        self._finish(run, result, error)
        self.async_runs.pop(id(run), None)
        if self.waiting:
            self.on_low()

    # Conclude -----------------------------------------------------------------------------------------------

    def _finish(self, run: Run, result: Any, error: BaseException | None) -> None:
        try:
            if error is None and run.plan.bare and not run.envelope.options:
                outcome = self._success(run, result)
            else:
                outcome = self._conclude(run, result, error)
        except BaseException as raised:
            outcome = self._failure(run, raised)
        finally:
            in_process.message = None
        if not run.abandoned:
            self.owner.finished(run, outcome)

    def _success(self, run: Run, result: Any) -> Outcome:
        ttl = run.plan.result_ttl_ms
        if not ttl:
            return _DONE
        return Result(b'{"value":' + codec.encode_value(result, "result") + b"}", ttl)

    def _conclude(self, run: Run, result: Any, error: BaseException | None) -> Outcome:
        plan, options = run.plan, run.envelope.options
        in_process.message = run
        run._exception = error
        if isinstance(error, (Cancelled, Shutdown)):
            return self._failure(run, error)
        if isinstance(error, _Expired):
            run.failed = True
            outcome: Outcome = Dead("expired", str(error), write_record(read_record(run.leased.record)))
            return self._nack(run, outcome)
        if isinstance(error, _Skipped):
            self.broker.call_hooks(self.broker.hooks("after_skip_message", native=False), (run,), {})
            if run.failed:
                return self._nack(run, self._dead(run, error.__cause__ or error, "rejected"))
            return self._ack(run, _DONE)

        if not isinstance(error, (Snooze, RateLimited)):
            if plan.callbacks and (plan.has_callbacks or "on_success" in options or "on_failure" in options):
                self.broker.call_hooks(
                    [plan.callbacks.after_process_message], (run,), {"result": result, "exception": error}
                )
            if plan.pipelines and error is None and "pipe_target" in options:
                self.broker.call_hooks([plan.pipelines.after_process_message], (run,), {"result": result})
        if error is not None:
            outcome = self._failure(run, error)
            run.failed = isinstance(outcome, Dead)
        else:
            outcome = self._success(run, result)
        self.broker.call_hooks(plan.after, (run,), {"result": result, "exception": error})
        if run.enqueued_again is not None and isinstance(outcome, Done):
            outcome = self._retry_as_enqueued(run, error)
        if run.failed and not isinstance(outcome, Dead):
            outcome = self._dead(run, error or RuntimeError("a middleware rejected it"), "rejected")
        return self._nack(run, outcome) if isinstance(outcome, Dead) else self._ack(run, outcome)

    def _ack(self, run: Run, outcome: Outcome) -> Outcome:
        self.broker.call_hooks(self.broker.hooks("before_ack", native=False), (run,), {})
        self.broker.call_hooks(self.broker.hooks("after_ack", native=False), (run,), {})
        return outcome

    def _nack(self, run: Run, outcome: Outcome) -> Outcome:
        self.broker.call_hooks(self.broker.hooks("before_nack", native=False), (run,), {})
        self.broker.call_hooks(self.broker.hooks("after_nack", native=False), (run,), {})
        return outcome

    def _failure(self, run: Run, error: BaseException) -> Outcome:
        """What an error means for the job."""
        token = run.context.cancel_token if run.context else None
        if isinstance(error, (Cancelled, Shutdown, asyncio.CancelledError)) and token:
            return Back() if token.reason == "shutdown" else Cancel()
        plan, options = run.plan, run.envelope.options
        if plan.retries is not None and not plan.is_task and not isinstance(error, Steering):
            # dramatiq's own rules, in its own words: it marks the message failed or enqueues it again.
            run._exception = error
            try:
                raise error
            except BaseException:
                self.broker.call_hooks([plan.retries.after_process_message], (run,), {"exception": error})
            if run.failed:
                return self._dead(run, error, "error")
            if run.enqueued_again is not None:
                return self._retry_as_enqueued(run, error)
            return _DONE
        policy = plan.policy
        if plan.retries is None and not plan.is_task and not isinstance(error, Steering):
            return _DONE  # without Retries dramatiq marks failed messages done
        if "max_retries" in options:
            policy = Policy(options["max_retries"], policy.backoff, policy.throws, policy.retry_when)
        verdict = judge(error, run.attempt, policy)
        if verdict.action == "postpone":
            return Postpone(verdict.delay_ms)
        if verdict.action == "dead":
            if not verdict.expected:
                self._tell_exhausted(run, policy)
            return self._dead(run, error, verdict.reason)
        record = read_record(run.leased.record)
        record.attempts += 1
        return Retry(verdict.delay_ms, write_record(record, self._attempt(error)), _words(error))

    def _tell_exhausted(self, run: Run, policy: Policy) -> None:
        """dramatiq's ``on_retry_exhausted``, which its Retries does for plain actors."""
        name = run.envelope.options.get("on_retry_exhausted") or run.plan.options.get("on_retry_exhausted")
        if name:
            told = {"retries": run.attempt - 1, "max_retries": policy.max_retries}
            self.broker.get_actor(name).send(run._message.asdict(), told)

    def _retry_as_enqueued(self, run: Run, error: BaseException | None) -> Retry:
        assert run.enqueued_again is not None
        message, delay_ms = run.enqueued_again
        record = read_record(run.leased.record)
        record.attempts = int(message.options.get("retries", record.attempts + 1))
        record.options = {k: v for k, v in message.options.items() if k != "traceback"}
        failed = self._attempt(error) if error is not None else None
        return Retry(delay_ms or 0, write_record(record, failed), _words(error) if error else "")

    def _dead(self, run: Run, error: BaseException, reason: str) -> Dead:
        record = read_record(run.leased.record)
        record.attempts += 1
        value, ttl = b"", run.plan.result_ttl_ms
        if ttl:
            value = codec.encode_value({"error": _words(error)}, "error")
        return Dead(reason, _words(error), write_record(record, self._attempt(error)), value, ttl or 0)

    def _attempt(self, error: BaseException) -> job.Attempt:
        text = "".join(traceback.format_exception(error))
        return job.Attempt(_now_ms(), _words(error), text[-_TRACEBACK_CHARACTERS:], self.worker)

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
            if (
                run.context is not None
                and job.id_of_entry(run.leased.entry) in job_ids
                and not run.context.cancel_token
            ):
                run.context.cancel_token.set("cancelled")
                self._interrupt(run, Cancelled)

    def tell_shutdown(self) -> None:
        """Tell running jobs that the worker stops; interrupt those that asked for it."""
        for run in self.running():
            if run.context is not None and not run.context.cancel_token:
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


class _Skipped(Exception):
    """A middleware chose to skip the message."""


class _Expired(Exception):
    """The job is older than it may be."""


class _NoPlan:
    bare = True
    is_async = False
    result_ttl_ms = 0
    name = ""
    notify_shutdown = False


_NO_PLAN: Any = _NoPlan()


def _words(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}"[:1000] if text else type(error).__name__


def _now_ms() -> int:
    return int(time.time() * 1000)
