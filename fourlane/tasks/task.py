"""@task: a function, its defaults, and the ways to send it. A dramatiq actor underneath."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, overload
from uuid import UUID

import dramatiq
import dramatiq.broker

from fourlane import codec, job
from fourlane.errors import (
    DuplicateJob,
    InvalidOption,
    JobCancelled,
    JobFailed,
    Reject,
    ResultNotKept,
    ResultRefused,
    ResultTimeout,
)
from fourlane.names import Queue, Tier, check_service
from fourlane.options import check_declared, check_delay, check_sent
from fourlane.queues import carry, ended
from fourlane.queues.broker import Defaults, RedisBroker
from fourlane.queues.limit import Limit
from fourlane.queues.output import Piece, Progress
from fourlane.queues.results import Results
from fourlane.queues.store import Delayed, Store
from fourlane.retry import Backoff
from fourlane.sealing import is_sealed, open_result, seal_arguments
from fourlane.tasks.callables import check_function, name_of
from fourlane.tasks.context import current_job

__all__ = ["Backoff", "EnqueuedJob", "Task", "current_job", "task"]

P = ParamSpec("P")
R = TypeVar("R")
_FIRST_LOOK_SECONDS = 0.25  # how long to wait for a result before asking whether there is one to come
_LOOK_SECONDS = 1.0
_CALLBACKS = ("on_failure", "on_retry_exhausted")


class EnqueuedJob(Generic[R]):
    """A job that Redis has accepted."""

    __slots__ = ("_accepted", "_keeps_result", "broker", "id", "queue")

    def __init__(
        self,
        broker: RedisBroker,
        queue: Queue,
        job_id: str,
        *,
        accepted: bool = False,
        keeps_result: bool | None = None,
    ) -> None:
        """
        Parameters:
          accepted: Redis has it; unless a relay is still to bring it there (docs/outbox.md).
          keeps_result: whether its task and options keep one; None when that is not known here.
        """
        self.broker = broker
        self.queue = queue
        self.id = job_id
        self._accepted = accepted
        self._keeps_result = keeps_result

    @property
    def message_id(self) -> str:
        """The id under dramatiq's name."""
        return self.id

    @property
    def _store(self) -> Store:
        broker: dramatiq.Broker = self.broker
        if not isinstance(broker, RedisBroker):
            raise RuntimeError(f"job {self.id} is a message of a {type(broker).__name__}: Redis knows nothing of it")
        return broker.store

    def _stored_id(self) -> str:
        return job.id_of_message(self.id, self.queue.tier)

    def info(self) -> job.JobInfo:
        """All that is known of it. Raises JobNotFound once it is done and no result is kept."""
        from fourlane.queues import browse

        return browse.job(self._store, self.id, self.queue)

    def status(self) -> job.State:
        """Where it is in its life. ``unknown``: done and no result kept, expired, or never accepted."""
        from fourlane.errors import JobNotFound

        try:
            return self.info().state
        except JobNotFound:
            kept = Results(self._store).look(self.queue.service, self._stored_id())
            return job.State.DONE if ended.is_done(kept) else job.State.UNKNOWN

    def cancel(self) -> job.State:
        """Cancel it; returns the state that it was in. A running job is told through its cancel token."""
        from fourlane.queues import control

        def has_callbacks(name: str) -> bool:
            actor = self.broker.actors.get(name)
            hooks = self.broker.hooks("before_nack", native=False) or self.broker.hooks("after_nack", native=False)
            return actor is None or bool(hooks) or not actor.options.keys().isdisjoint(_CALLBACKS)

        return control.cancel(self._store, self.id, self.queue, has_callbacks=has_callbacks)

    def progress(self) -> Progress | None:
        """How far it said that it is; None when it said nothing within the last hour."""
        from fourlane.queues.output import read_progress

        return read_progress(self._store, self.queue.service, self._stored_id())

    def log_lines(self) -> list[str]:
        """Its last log lines, up to 200."""
        from fourlane.queues.output import read_log

        return read_log(self._store, self.queue.service, self._stored_id())

    def stream(self, timeout: float | None = None) -> Iterator[Piece]:
        """What it writes, from the start and as it grows, until it ends.

        A piece with ``restart`` begins the output anew: the job runs again, what came before is void.

        Parameters:
          timeout: seconds without a new piece after which to give up; None waits as long as the job lives.

        Raises:
          ResultTimeout: no new piece came in time.
        """
        from fourlane.queues.output import read_output

        ended = {job.State.DONE, job.State.DEAD, job.State.CANCELLED, job.State.UNKNOWN}
        return read_output(
            self._store,
            self.queue.service,
            self._stored_id(),
            ended=lambda: self.status() in ended,
            timeout_seconds=timeout,
        )

    async def astream(self, timeout: float | None = None) -> AsyncIterator[Piece]:
        """As stream, without blocking the event loop."""
        pieces = self.stream(timeout)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece

    def result(self, timeout: float | None = 10.0) -> R:
        """Wait for its result.

        Parameters:
          timeout: seconds; None waits for ever.

        Raises:
          ResultTimeout: none came in time.
          JobFailed: it ended otherwise: it is a dead letter, or was cancelled (JobCancelled). Told at once.
          ResultRefused: it is done, but its result could not be kept; says why.
          ResultNotKept: its task keeps no results (``result_ttl_ms``), or this one's time is over.
        """
        if self._keeps_result is False:
            raise ResultNotKept(
                f"job {self.id} keeps no result; declare its task with result_ttl_ms, such as "
                "@task(result_ttl_ms=60_000), or send it with that option"
            )
        results, service, stored = Results(self._store), self.queue.service, self._stored_id()
        deadline = None if timeout is None else time.monotonic() + timeout
        longest = _FIRST_LOOK_SECONDS
        while True:
            left = longest if deadline is None else min(longest, deadline - time.monotonic())
            data = results.wait(service, stored, left)
            if data is None and left > 0:
                self._look_for_end()
                longest = _LOOK_SECONDS
            elif data is not None:
                return cast("R", _value_of(data))
            else:
                raise ResultTimeout(f"no result of job {self.id} within {timeout:g} s")

    def _look_for_end(self) -> None:
        """Raises what result() tells of a job that is over and left no result."""
        store, stored = self._store, self._stored_id()
        keys = store.service(self.queue.service)
        command = store.connector.command
        length = command(keys.jobs, "HSTRLEN", keys.jobs, stored)
        reason = command(keys.reasons, "HGET", keys.reasons, stored) if length else None
        if isinstance(reason, bytes):
            word, _, detail = reason.decode("utf-8", "replace").partition("\n")
            raise JobFailed(detail if word == "error" and detail else f"{word}: {detail}")
        if length:
            return
        if command(keys.jobs, "HEXISTS", keys.jobs, stored):
            raise JobCancelled(f"job {self.id} was cancelled before it ran")
        if command(keys.result(stored), "EXISTS", keys.result(stored)) == 0:
            if command(keys.cancelled(stored), "EXISTS", keys.cancelled(stored)):
                raise JobCancelled(f"job {self.id} was cancelled while it ran, and did not come back")
            if self._accepted:
                raise ResultNotKept(
                    f"job {self.id} is over and has no result: it keeps none, or its result_ttl_ms is over"
                )

    async def aresult(self, timeout: float | None = 10.0) -> R:
        """As result, without blocking the event loop."""
        return await asyncio.to_thread(self.result, timeout)

    def __repr__(self) -> str:
        broker: dramatiq.Broker = self.broker
        environment = broker.store.environment if isinstance(broker, RedisBroker) else "local"
        return f"EnqueuedJob({self.id!r}, queue={self.queue.name(environment)!r})"


def _value_of(data: bytes) -> Any:
    stored = codec.decode_value(data)
    if "refused" in stored:
        raise ResultRefused(f"the job is done, but its result is not kept: {stored['refused']}")
    if "cancelled" in stored:
        raise JobCancelled(stored["error"])
    if "error" in stored:
        raise JobFailed(stored["error"])
    if is_sealed(stored):
        return open_result(stored)
    return stored["value"]


class Task(dramatiq.Actor[P, R]):
    """A task: call it, or send it."""

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        broker: dramatiq.Broker,
        name: str,
        service: str | None,
        tier: Tier,
        limit: Limit | None = None,
        check: Callable[..., None] | None = None,
        encrypt: bool = False,
        options: dict[str, Any],
    ) -> None:
        self.tier = tier
        self.limit = limit
        self.check = check
        self.encrypt = encrypt
        self._service = service
        self._stub = not isinstance(broker, RedisBroker)
        self.original = fn
        check_function(fn)
        kept = check_declared(options)
        if self._stub:
            kept = _for_dramatiq(kept)
        super().__init__(fn, broker=broker, actor_name=name, queue_name="", priority=0, options=kept)
        if encrypt:
            codec.seals[name] = seal_arguments
        else:
            codec.seals.pop(name, None)

    broker: RedisBroker

    @property
    def service(self) -> str:
        return self._service or self._defaults.service

    @property
    def queue(self) -> Queue:
        return Queue(self.service, self.tier)

    @property
    def queue_name(self) -> str:
        """The queue's name; empty until the broker is opened, for settings name the environment and the service."""
        return self._full_name if self._is_open else ""

    @queue_name.setter
    def queue_name(self, value: str) -> None:
        """dramatiq sets it; ours follows from service and tier."""

    @property
    def _is_open(self) -> bool:
        return self._stub or self.broker._opened is not None

    @property
    def _defaults(self) -> Defaults:
        return _OF_STUBS if self._stub else self.broker.opened.defaults

    @property
    def _full_name(self) -> str:
        return self._name_of(self.queue)

    def _name_of(self, queue: Queue) -> str:
        return queue.name("local" if self._stub else self.broker.store.environment)

    def send(self, *args: P.args, **kwargs: P.kwargs) -> EnqueuedJob[R]:  # type: ignore[override]
        """Enqueue a job; returns once Redis has accepted it.

        Raises:
          InvalidArguments, JobTooLarge, RedisUnavailable
        """
        return self._enqueue(args, kwargs, {}, None)

    def send_with_options(  # type: ignore[override]
        self,
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        delay: timedelta | int | None = None,
        eta: datetime | None = None,
        tier: Tier | str | int | None = None,
        tenant: str | UUID | None = None,
        **options: Any,
    ) -> EnqueuedJob[R]:
        """Enqueue a job with options.

        Parameters:
          tier: another tier than the task's, for this job.
          tenant: the organization on whose behalf; that of the job that runs here by default, ``""`` for none.
          delay: milliseconds, or a timedelta, until it may run.
          eta: the moment from which it may run, with a time zone.
          **options: those of dramatiq and its middleware, e.g. ``max_retries``, ``time_limit``, ``on_success``.

        Raises:
          InvalidArguments, JobTooLarge, RedisUnavailable
          InvalidOption: an option of a wrong type or range.
        """
        when = _when(delay, eta)
        if options:
            options = self.message_with_options(**options).options
        if tenant is not None:
            options["tenant"] = tenant
        lane = self.tier if tier is None else Tier.parse(tier)
        return self._enqueue(args, {} if kwargs is None else kwargs, options, when, lane)

    def send_many(self, calls: Iterable[Any], *, tenant: str | UUID | None = None) -> list[EnqueuedJob[R]]:
        """Enqueue many jobs, 250 in a call; none when the arguments of one are refused.

        With a middleware that has a hook around the enqueue they go one by one instead, as far as they are good.

        Parameters:
          calls: for each job its arguments: a list or tuple of positional ones, or a dict of named ones.
          tenant: as for send_with_options, of all of them.

        Raises:
          InvalidArguments, JobTooLarge: of one of them.
          RedisUnavailable: not all were accepted.
        """
        own = carry.with_tenant({} if tenant is None else {"tenant": tenant})
        jobs = [(tuple(c), {}) if isinstance(c, (list, tuple)) else ((), dict(c)) for c in calls]
        if self._stub or self.broker.hooks("before_enqueue") or self.broker.hooks("after_enqueue"):
            return [self._enqueue(args, kwargs, own, None) for args, kwargs in jobs]
        queue, limit, now = self.queue, self.broker.opened.defaults.max_body_bytes, self._now_ms(own)
        name, broker, check = self.actor_name, self.broker, self.check
        bodies: list[bytes] = []
        with carry.carried(queue.name(broker.store.environment), name, len(jobs)) as carried:
            options = {**carried, **own}
            for args, kwargs in jobs:
                if check is not None:
                    check(*args, **kwargs)
                bodies.append(codec.encode(name, args, kwargs, options, max_bytes=limit))
            ids = broker.store.enqueue_new(queue.service, int(self.tier), bodies, now)
        keeps = self._keeps_result(own)
        return [EnqueuedJob(broker, queue, job_id, accepted=True, keeps_result=keeps) for job_id in ids]

    async def asend(self, *args: P.args, **kwargs: P.kwargs) -> EnqueuedJob[R]:
        """As send, without blocking the event loop."""
        return await asyncio.to_thread(self._enqueue, args, kwargs, {}, None)

    async def asend_with_options(self, **options: Any) -> EnqueuedJob[R]:
        """As send_with_options, without blocking the event loop."""
        return await asyncio.to_thread(self.send_with_options, **options)

    async def asend_many(self, calls: Iterable[Any], *, tenant: str | UUID | None = None) -> list[EnqueuedJob[R]]:
        """As send_many, without blocking the event loop."""
        return await asyncio.to_thread(self.send_many, calls, tenant=tenant)

    def _enqueue(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        when: tuple[int, bool] | None,
        lane: Tier | None = None,
    ) -> EnqueuedJob[R]:
        defaults = self._defaults
        if self.check is not None:
            self.check(*args, **kwargs)
        if "tenant" in options or carry.running.get() is not None:
            options = carry.with_tenant(options)
        queue = Queue(self._service or defaults.service, self.tier if lane is None else lane)
        if carry.sending is None:
            return self._enqueue_on(queue, args, kwargs, options, when)
        with carry.carried(self._name_of(queue), self.actor_name) as carried:
            return self._enqueue_on(queue, args, kwargs, {**carried, **options}, when)

    def _enqueue_on(
        self,
        queue: Queue,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        when: tuple[int, bool] | None,
    ) -> EnqueuedJob[R]:
        broker, tier = self.broker, int(queue.tier)
        if self._stub or broker.hooks("before_enqueue") or broker.hooks("after_enqueue"):
            return self._enqueue_as_message(queue, args, kwargs, options, when)
        opened = broker.opened
        body = codec.encode(self.actor_name, args, kwargs, options, max_bytes=opened.defaults.max_body_bytes)
        while True:
            job_id = job.new_id(tier, self._now_ms(options))
            try:
                if when is None:
                    opened.store.enqueue(queue.service, tier, (job_id, body))
                else:
                    opened.store.delay(queue.service, [Delayed(job_id, body, *when)])
            except DuplicateJob:
                continue  # one chance in billions; another id has no such luck
            return EnqueuedJob(broker, queue, job_id, accepted=True, keeps_result=self._keeps_result(options))

    def _keeps_result(self, options: Mapping[str, Any]) -> bool:
        own = self.options.get("result_ttl_ms", self._defaults.result_ttl_ms)
        return bool(options.get("result_ttl_ms", own))

    def _now_ms(self, options: Mapping[str, Any]) -> int:
        """What a job's id says of its time: Redis's, where its age matters, for it is judged by Redis's clock."""
        if not self._stub and ("max_age" in options or "max_age" in self.options):
            return self.broker.store.clock.now_ms()
        return int(time.time() * 1000)

    def _enqueue_as_message(
        self,
        queue: Queue,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        when: tuple[int, bool] | None,
    ) -> EnqueuedJob[R]:
        now = self._now_ms(options)
        message: dramatiq.Message[R] = dramatiq.Message(
            queue_name=self._name_of(queue),
            actor_name=self.actor_name,
            args=tuple(args),
            kwargs=dict(kwargs),
            options=dict(options),
            message_id=job.new_id(int(queue.tier), now),
            message_timestamp=now,
        )
        delay = None if when is None else max(0, when[0] - (now if when[1] else 0))
        if self._stub:
            self.broker.declare_queue(message.queue_name)
        self.broker.enqueue(message, delay=delay)
        return EnqueuedJob(
            self.broker, queue, message.message_id, accepted=True, keeps_result=self._keeps_result(options)
        )

    def message_with_options(self, **options: Any) -> dramatiq.Message[R]:
        """A message for dramatiq's groups and pipelines. Raises InvalidOption."""
        message = super().message_with_options(**options)
        sent = check_sent(message.options)
        now = self._now_ms(sent)
        return message.copy(
            options=sent,
            queue_name=self._full_name,
            message_id=job.new_id(int(self.tier), now),
            message_timestamp=now,
        )

    def __repr__(self) -> str:
        return f"Task({self.actor_name!r}, service={self._service!r}, tier={self.tier.name})"


def _when(delay: timedelta | int | None, eta: datetime | None) -> tuple[int, bool] | None:
    if delay is not None and eta is not None:
        raise ValueError("give either delay or eta, not both")
    if eta is not None:
        if eta.tzinfo is None:
            raise ValueError(f"eta needs a time zone, such as {datetime.now(UTC).isoformat(timespec='seconds')}")
        return max(0, int(eta.timestamp() * 1000)), True
    if delay is None:
        return None
    if not isinstance(delay, (timedelta, int, float)) or not math.isfinite(
        delay.total_seconds() if isinstance(delay, timedelta) else delay
    ):
        raise InvalidOption(f"delay must be a number of milliseconds or a timedelta, not {delay!r}")
    milliseconds = int(delay.total_seconds() * 1000) if isinstance(delay, timedelta) else int(delay)
    return (check_delay(milliseconds, "delay"), False) if milliseconds else None


@overload
def task(fn: Callable[P, Awaitable[R]], /) -> Task[P, R]: ...
@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    service: str | None = None,
    tier: Tier | str | int = Tier.P1,
    max_retries: int | None = None,
    backoff: Backoff | None = None,
    retry_when: Callable[[int, BaseException], bool] | None = None,
    throws: type[BaseException] | Iterable[type[BaseException]] = (),
    timeout_ms: int | None = None,
    hard_timeout_ms: int | None = None,
    max_age_ms: int | None = None,
    result_ttl_ms: int | None = None,
    on_bad_result: Literal["done", "dead"] | None = None,
    limit: Limit | None = None,
    share: float | None = None,
    check: Callable[..., None] | None = None,
    encrypt: bool = False,
    broker: dramatiq.Broker | None = None,
    **options: Any,
) -> Callable[[Callable[P, Any]], Task[P, Any]]: ...
def task(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    service: str | None = None,
    tier: Tier | str | int = Tier.P1,
    max_retries: int | None = None,
    backoff: Backoff | None = None,
    retry_when: Callable[[int, BaseException], bool] | None = None,
    throws: type[BaseException] | Iterable[type[BaseException]] = (),
    timeout_ms: int | None = None,
    hard_timeout_ms: int | None = None,
    max_age_ms: int | None = None,
    result_ttl_ms: int | None = None,
    on_bad_result: Literal["done", "dead"] | None = None,
    limit: Limit | None = None,
    share: float | None = None,
    check: Callable[..., None] | None = None,
    encrypt: bool = False,
    broker: dramatiq.Broker | None = None,
    **options: Any,
) -> Any:
    """Make a function a task.

    Parameters:
      name: the task's name in Redis; the function's own by default.
      service: who owns it; the setting FOURLANE_SERVICE by default.
      tier: ``P0``…``P3``, or ``high``, ``normal``, ``low``, ``scheduled``.
      max_retries: attempts after the first; 5 by default.
      backoff: how long to wait between attempts.
      retry_when: ``(retries so far, error) -> bool``, in place of ``max_retries``.
      throws: errors that are expected and never retried.
      timeout_ms: the run is interrupted after this many milliseconds; 10 minutes by default.
      hard_timeout_ms: the worker's process is killed, and a crash counted, after this many.
      max_age_ms: a job that was ready and waited longer than this is a dead letter (``expired``). By Redis's clock;
        a delay, a backoff and the time before a replay do not count.
      result_ttl_ms: how long a result is kept, up to ten years; 0, not at all, by default.
      on_bad_result: what becomes of a job whose result cannot be kept (not JSON, too large, not to be encrypted):
        ``done``, and who waits for it gets ResultRefused; or ``dead``, a dead letter (``rejected``). It is never
        run again for that.
      limit: how many jobs of the task's queue may start in a time, and run at once; all tasks of the queue share
        it. What settings say comes before it, and what an operator sets at run time before both.
      share: the part of a worker process's slots, or of its places for ``async def``, that jobs of this task may
        hold at once, such as 0.5; one at least. A job over it leaves its slot to others, and comes again after
        0.2 to 30 s, by how long such jobs run.
      check: called with a job's arguments at each enqueue; its error refuses the job. Binding is left to it.
      encrypt: keep arguments and result encrypted in Redis, with FOURLANE_ENCRYPTION_KEYS (docs/tasks.md).
      broker: the broker; by default the one that settings describe, or a global ``StubBroker``. One of dramatiq's
        ``StubBroker``, for unit tests, gets a job as its message, under dramatiq's rules of a retry.
      **options: those of dramatiq's middleware.

    Raises:
      InvalidName: of the tier or service.
      SettingsError: of the limit.
      InvalidOption: an option of a wrong type or range.
      InvalidTask: the function is a generator, or has no name.
      ValueError: a task of this name is declared already, or an option is not known.
    """
    if service is not None:
        check_service(service)
    if limit is not None:
        limit.check()
    lane = Tier.parse(tier)
    given: dict[str, Any] = {
        "max_retries": max_retries,
        "backoff": backoff,
        "retry_when": retry_when,
        "throws": throws or None,
        "time_limit": timeout_ms,
        "hard_timeout_ms": hard_timeout_ms,
        "max_age": max_age_ms,
        "result_ttl_ms": result_ttl_ms,
        "share": share,
        "on_bad_result": on_bad_result,
    }
    kept = {key: value for key, value in given.items() if value is not None} | options

    def declare(function: Callable[..., Any]) -> Task[Any, Any]:
        target = broker or _broker_of_tasks()
        unknown = set(options) - target.actor_options
        if unknown:
            raise ValueError(f"unknown option(s) {', '.join(sorted(unknown))}: is a middleware missing?")
        return Task(
            function,
            broker=target,
            name=name or name_of(function),
            service=service,
            tier=lane,
            limit=limit,
            check=check,
            encrypt=encrypt,
            options=kept,
        )

    return declare if fn is None else declare(fn)


def _for_dramatiq(options: dict[str, Any]) -> dict[str, Any]:
    """A task's options as dramatiq's own middleware ``Retries`` reads them."""
    backoff = options.get("backoff")
    waits = {} if backoff is None else {"min_backoff": backoff.min_ms, "max_backoff": backoff.max_ms}
    return {**waits, **options, "throws": (*options.get("throws", ()), Reject)}


_OF_STUBS = Defaults()
_beside: RedisBroker | None = None


def _broker_of_tasks() -> dramatiq.Broker:
    """Where tasks are declared that name no broker: in unit tests on the program's StubBroker."""
    from dramatiq.brokers.stub import StubBroker

    broker = dramatiq.broker.global_broker
    return broker if isinstance(broker, StubBroker) else default_broker()


def keep_beside(broker: RedisBroker) -> None:
    """Let this be the default broker of a program that sets one which is not ours."""
    global _beside
    _beside = broker


def default_broker() -> RedisBroker:
    """dramatiq's global broker when it is ours; else one that reads the settings when it is first used.

    That becomes the global one when there is none, and stays beside one that the program has set.
    """
    broker = dramatiq.broker.global_broker
    if isinstance(broker, RedisBroker):
        return broker
    if broker is not None and _beside is not None:
        return _beside

    made = RedisBroker()
    if broker is None:
        dramatiq.set_broker(made)
    else:
        keep_beside(made)
    return made
