"""One job in this process, and all that is known of its task beforehand."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

import dramatiq
from dramatiq.asyncio import async_to_sync
from dramatiq.broker import MessageProxy
from dramatiq.middleware import AgeLimit, Middleware, Retries, ShutdownNotifications, TimeLimit
from dramatiq.results import Results

from fourlane import codec, job
from fourlane.options import fault_of
from fourlane.queues.broker import NATIVE, RedisBroker
from fourlane.queues.journal import Lease, journal_of
from fourlane.queues.messages import message_of
from fourlane.queues.store import Store
from fourlane.queues.turn import Leased
from fourlane.retry import Backoff, Policy
from fourlane.tasks.callables import is_async
from fourlane.tasks.context import CurrentJob
from fourlane.tasks.task import Task
from fourlane.worker.run.gate import Gate

if TYPE_CHECKING:
    from fourlane.tasks.output import Output
    from fourlane.tasks.recorded import Steps

__all__ = ["NoPlan", "Plan", "Run"]


class Run(MessageProxy):
    """One job in this process. A dramatiq MessageProxy, for middleware sees it as its message."""

    # On the class, so that making a Run costs little: most jobs change few of these.
    failed = False
    abandoned = False
    gated = False  # it has one of its task's places
    expected = False  # its error
    lost = False  # its lease: the job runs elsewhere by now
    told: frozenset[str] = frozenset()  # which of the callbacks heard of its end
    ended = False  # the function is over: no interrupt may be sent any more
    interrupted: type[BaseException] | None = None
    takes_retry = False  # its middleware is being told of its failure
    enqueued_again: tuple[dramatiq.Message[Any], int | None] | None = None
    deadline = 0.0
    row = -1
    attempt = 1
    started = 0.0
    ended_at = 0.0
    trace: Any = None  # what a tracer keeps of it
    thread = 0
    task: asyncio.Task[Any] | None = None
    on_loop = False  # it went over there from a thread
    late_interrupt: type[BaseException] | None = None  # came when its function in a thread was over
    awaitable: Any = None  # what its function returned in a slot's thread, for the event loop to await
    goes_on_in: contextvars.Context | None = None  # the one context of its hooks and its coroutine
    _exception: BaseException | None = None
    _built: dramatiq.Message[Any] | None = None
    _steps: Steps | None = None
    _output: Output | None = None

    def __init__(self, service: Any, leased: Leased, envelope: codec.Envelope, plan: Plan) -> None:
        self.service = service
        self.epoch = service.epoch
        self.leased = leased
        self.envelope = envelope
        self.plan = plan

    @property
    def context(self) -> CurrentJob:
        """What the task sees of itself, made when it, a cancel or a stop first needs it."""
        made = self.__dict__.get("_context")
        if made is None:
            job_id = job.message_id_of(job.id_of_entry(self.leased.entry))
            fresh = CurrentJob(job_id, self.plan.name, self.service.name, self.attempt, self.envelope.enqueued_ms)
            options = self.envelope.options
            fresh.tenant = self.tenant
            if "scheduled_for" in options:
                fresh.schedule, fresh.scheduled_for_ms = options.get("schedule", ""), options["scheduled_for"]
            made = self.__dict__.setdefault("_context", fresh)  # two threads may come at once
        return cast("CurrentJob", made)

    def leave_gate(self) -> None:
        """Give its place back, when it has one."""
        if self.gated and self.plan.gate is not None:
            self.gated = False
            self.plan.gate.leave((self.ended_at or time.monotonic()) - self.started if self.started else 0.0)

    def let_go(self) -> None:
        """Of the error: its traceback holds the frames of the job, which hold this run and all that the job had."""
        self._exception = None

    @property
    def tenant(self) -> str:
        return str(self.envelope.options.get("tenant") or "")

    @property
    def lease(self) -> Lease:
        """Under which this run may write."""
        return Lease(self.service.name, f"{self.service.worker}.{self.epoch}", self.leased.entry)

    @property
    def store(self) -> Store:
        return self.plan.broker.store

    @property
    def steps(self) -> Steps:
        if self._steps is None:
            from fourlane.tasks.recorded import Steps

            made = Steps(journal_of(self.plan.broker.store), self.lease, self)
            self._steps = self.__dict__.setdefault("_steps", made)
        return self._steps

    @property
    def output(self) -> Output:
        if self._output is None:
            from fourlane.tasks.output import Output

            made = Output(journal_of(self.plan.broker.store), self.lease, self)
            self._output = self.__dict__.setdefault("_output", made)
        return self._output

    @property
    def _message(self) -> dramatiq.Message[Any]:  # type: ignore[override]
        """Built when a middleware or an error first needs it: most jobs never do."""
        if self._built is None:
            self._built = message_of(self.plan.broker, self.service.name, self.leased, envelope=self.envelope)
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
        self.fault = "" if isinstance(actor, Task) else fault_of(options)
        if self.fault:  # each job of it is refused with that
            options = {name: value for name, value in options.items() if not fault_of({name: value})}
        native = {type(m): m for m in broker.middleware}
        function = actor.original if isinstance(actor, Task) else _called(actor)
        told = [m for m in broker.middleware if _is_told(m)]
        self.told = bool(told)
        """Middleware is told of its jobs, in threads: that may block, and an event loop may not."""
        self.keeps_thread = any(_keeps_thread(m) for m in told)
        """The thread in which middleware heard of a job's begin waits for its coroutine, and tells of the end."""
        self.is_coroutine = is_async(function)
        self.is_async = self.is_coroutine and not self.told
        """Its jobs are made on the event loop, and take no slot."""
        self.fn = function
        self.is_task = isinstance(actor, Task)
        self.encrypt = isinstance(actor, Task) and actor.encrypt
        self.service = actor.service if isinstance(actor, Task) else broker.queue_of(actor.queue_name).service
        self.share = float(options.get("share") or 1.0)
        self.gate: Gate | None = None
        """Has a place for each of its jobs that this process may run at once, where that is limited. Set at boot."""
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
        self.discards = not self.is_task and Results not in native
        """Nobody keeps what it returns: dramatiq's actors are told."""
        self.retries = native.get(Retries)
        shutdown = native.get(ShutdownNotifications)
        notifies = shutdown.notify_shutdown if isinstance(shutdown, ShutdownNotifications) else False
        self.notify_shutdown = bool(options.get("notify_shutdown", notifies))
        self.has_callbacks = bool(options.get("on_success") or options.get("on_failure"))
        self.before = broker.hooks("before_process_message", native=False)
        self.after = _in_order_of_after(broker.middleware)
        self.hooked = bool(
            self.before
            or broker.hooks("after_process_message", native=False)
            or broker.hooks("before_ack", native=False)
            or broker.hooks("after_ack", native=False)
        )
        self.throws = options.get("throws") or ()
        policy = Policy(
            backoff=Backoff(min(defaults.min_backoff_ms, defaults.max_backoff_ms), defaults.max_backoff_ms),
            throws=self.throws if self.is_task else (),  # a plain actor's are dramatiq's to judge
        ).with_options(options)
        self.policy = replace(
            policy,
            max_retries=options.get("max_retries", defaults.max_retries),
            backoff=options.get("backoff") or policy.backoff,
            retry_when=options.get("retry_when"),
        )
        # The bare path: nothing but the function itself.
        self.bare = not (self.hooked or self.has_callbacks or self.max_age_ms or self.fault)
        self.plain = self.bare and not self.result_ttl_ms


class NoPlan:
    """In a Plan's place for a job that cannot be read, or whose task nobody here knows."""

    bare = plain = True
    is_async = is_coroutine = told = keeps_thread = False
    is_task = False
    result_ttl_ms = 0
    name = ""
    notify_shutdown = False
    gate = None
    options: Mapping[str, Any] = MappingProxyType({})
    throws = ()
    policy = Policy()

    def __init__(self, broker: RedisBroker) -> None:
        self.broker = broker


# What middleware is told ------------------------------------------------------------------------------------------

_OF_JOBS: Final = (
    "before_process_message",
    "after_process_message",
    "after_skip_message",
    "before_ack",
    "after_ack",
    "before_nack",
    "after_nack",
    "before_enqueue",
    "after_enqueue",
)
"""Signals that come where jobs run; those of enqueueing too, for a retry is one."""

_LEAVE_THREAD: Final = frozenset(
    (
        "dramatiq.middleware.current_message.CurrentMessage",
        "dramatiq.middleware.group_callbacks.GroupCallbacks",
        "dramatiq.middleware.prometheus.Prometheus",
        "dramatiq.results.middleware.Results",
        "sentry_sdk.integrations.dramatiq.SentryMiddleware",
    )
)
"""Middleware that keeps nothing by the thread: others may do, and so may what they call."""


def _is_told(middleware: Middleware) -> bool:
    kind = type(middleware)
    return kind not in NATIVE and any(_overrides(kind, signal) for signal in _OF_JOBS)


def _overrides(kind: type[Middleware], signal: str) -> bool:
    return getattr(kind, signal, None) is not getattr(Middleware, signal)


def _keeps_thread(middleware: Middleware) -> bool:
    """It interrupts the thread, or keeps a state by it, unless it is known or says that it does not."""
    kind = type(middleware)
    known = f"{kind.__module__}.{kind.__qualname__}" in _LEAVE_THREAD
    return bool(getattr(middleware, "keeps_thread", not known))


_WITHOUT_AFTER: Final = (AgeLimit, TimeLimit, ShutdownNotifications)


def _in_order_of_after(middleware: list[Middleware]) -> list[Middleware | None]:
    """Who hears that a message was processed, as dramatiq orders them: who was added last comes first.

    None stands for the verdict: what the end means for the job. That is ``Retries``' turn; where there is none, the
    verdict comes before all.
    """
    order: list[Middleware | None] = []
    for m in reversed(middleware):
        if type(m) is Retries:
            order += [] if None in order else [None]
        elif type(m) not in _WITHOUT_AFTER and _overrides(type(m), "after_process_message"):
            order.append(m)
    return order if None in order else [None, *order]


# Functions --------------------------------------------------------------------------------------------------------


async def _nothing() -> None: ...


_DRAMATIQ_SYNC: Final = async_to_sync(_nothing).__code__
_DRAMATIQ_CALL: Final = dramatiq.Actor.__call__


def _called(actor: dramatiq.Actor[Any, Any]) -> Any:
    """What dramatiq calls: the actor, where its class has its own way of that, else its function.

    Without dramatiq's wrapper of ``async def``, which is for the threads of its own worker.
    """
    if type(actor).__call__ is not _DRAMATIQ_CALL:
        return actor
    function: Any = actor.fn
    return function.__wrapped__ if getattr(function, "__code__", None) is _DRAMATIQ_SYNC else function
