"""@task: a function, its defaults, and the ways to send it. A dramatiq actor underneath."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload
from uuid import UUID

import dramatiq
import dramatiq.broker

from fourlane import codec, job
from fourlane.errors import DuplicateJob, JobFailed, ResultTimeout
from fourlane.names import Queue, Tier, check_service
from fourlane.queues import carry
from fourlane.queues.broker import RedisBroker
from fourlane.queues.limit import Limit
from fourlane.queues.output import Piece, Progress
from fourlane.queues.store import Delayed
from fourlane.retry import Backoff
from fourlane.sealing import is_sealed, open_result, seal_arguments
from fourlane.tasks.context import current_job

__all__ = ["Backoff", "EnqueuedJob", "Task", "current_job", "task"]

P = ParamSpec("P")
R = TypeVar("R")
_now = time.time


class EnqueuedJob(Generic[R]):
    """A job that Redis has accepted."""

    __slots__ = ("broker", "id", "queue")

    def __init__(self, broker: RedisBroker, queue: Queue, job_id: str) -> None:
        self.broker = broker
        self.queue = queue
        self.id = job_id

    @property
    def message_id(self) -> str:
        """The id under dramatiq's name."""
        return self.id

    def _stored_id(self) -> str:
        return job.id_of_message(self.id, self.queue.tier)

    def info(self) -> job.JobInfo:
        """All that is known of it. Raises JobNotFound once it is done and no result is kept."""
        from fourlane.queues import browse

        return browse.job(self.broker.store, self.id, self.queue)

    def status(self) -> job.State:
        """Where it is in its life. ``unknown``: done and no result kept, expired, or never accepted."""
        from fourlane.errors import JobNotFound

        key = self.broker.store.service(self.queue.service).result(self._stored_id())
        try:
            return self.info().state
        except JobNotFound:
            found = self.broker.store.connector.command(key, "EXISTS", key)
            return job.State.DONE if found else job.State.UNKNOWN

    def cancel(self) -> job.State:
        """Cancel it; returns the state that it was in. A running job is told through its cancel token."""
        from fourlane.queues import control

        return control.cancel(self.broker.store, self.id, self.queue)

    def progress(self) -> Progress | None:
        """How far it said that it is; None when it said nothing within the last hour."""
        from fourlane.queues.output import read_progress

        return read_progress(self.broker.store, self.queue.service, self._stored_id())

    def log_lines(self) -> list[str]:
        """Its last log lines, up to 200."""
        from fourlane.queues.output import read_log

        return read_log(self.broker.store, self.queue.service, self._stored_id())

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
            self.broker.store,
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
          ResultTimeout: none came in time; does the task keep results (``result_ttl_ms``)?
          JobFailed: it became a dead letter.
        """
        store = self.broker.store
        key = store.service(self.queue.service).result(self._stored_id())
        deadline = None if timeout is None else _now() + timeout
        while True:
            left = 2.0 if deadline is None else min(2.0, deadline - _now())
            data = store.read_result(key, left)
            if data is not None:
                return cast("R", _value_of(data))
            if left <= 0:
                raise ResultTimeout(f"no result of job {self.id} within {timeout:g} s")

    async def aresult(self, timeout: float | None = 10.0) -> R:
        """As result, without blocking the event loop."""
        return await asyncio.to_thread(self.result, timeout)

    def __repr__(self) -> str:
        return f"EnqueuedJob({self.id!r}, queue={self.queue.name(self.broker.store.environment)!r})"


def _value_of(data: bytes) -> Any:
    stored = codec.decode_value(data)
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
        broker: RedisBroker,
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
        self.original = fn
        super().__init__(fn, broker=broker, actor_name=name, queue_name="", priority=0, options=options)
        if encrypt:
            codec.seals[name] = seal_arguments
        else:
            codec.seals.pop(name, None)

    broker: RedisBroker

    @property
    def service(self) -> str:
        return self._service or self.broker.opened.defaults.service

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
        return self.broker._opened is not None

    @property
    def _full_name(self) -> str:
        return self.queue.name(self.broker.store.environment)

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
        """
        when = _when(delay, eta)
        if options:
            options = self.message_with_options(**options).options
        if tenant is not None:
            options["tenant"] = tenant
        lane = self.tier if tier is None else Tier.parse(tier)
        return self._enqueue(args, kwargs or {}, options, when, lane)

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
        if self.broker.hooks("before_enqueue") or self.broker.hooks("after_enqueue"):
            return [self._enqueue(args, kwargs, own, None) for args, kwargs in jobs]
        queue, limit, now = self.queue, self.broker.opened.defaults.max_body_bytes, int(_now() * 1000)
        name, broker, check = self.actor_name, self.broker, self.check
        bodies: list[bytes] = []
        with carry.carried(queue.name(broker.store.environment), name, len(jobs)) as carried:
            options = {**carried, **own}
            for args, kwargs in jobs:
                if check is not None:
                    check(*args, **kwargs)
                bodies.append(codec.encode(name, args, kwargs, options, max_bytes=limit))
            ids = broker.store.enqueue_new(queue.service, int(self.tier), bodies, now)
        return [EnqueuedJob(broker, queue, job_id) for job_id in ids]

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
        opened = self.broker.opened
        if self.check is not None:
            self.check(*args, **kwargs)
        if "tenant" in options or carry.running.get() is not None:
            options = carry.with_tenant(options)
        queue = Queue(self._service or opened.defaults.service, self.tier if lane is None else lane)
        if carry.sending is None:
            return self._enqueue_on(queue, args, kwargs, options, when)
        with carry.carried(queue.name(opened.store.environment), self.actor_name) as carried:
            return self._enqueue_on(queue, args, kwargs, {**carried, **options}, when)

    def _enqueue_on(
        self,
        queue: Queue,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        when: tuple[int, bool] | None,
    ) -> EnqueuedJob[R]:
        broker, opened, tier = self.broker, self.broker.opened, int(queue.tier)
        if broker.hooks("before_enqueue") or broker.hooks("after_enqueue"):
            return self._enqueue_as_message(queue, args, kwargs, options, when)
        body = codec.encode(self.actor_name, args, kwargs, options, max_bytes=opened.defaults.max_body_bytes)
        while True:
            job_id = job.new_id(tier, int(_now() * 1000))
            try:
                if when is None:
                    opened.store.enqueue(queue.service, tier, (job_id, body))
                else:
                    opened.store.delay(queue.service, [Delayed(job_id, body, *when)])
            except DuplicateJob:
                continue  # one chance in billions; another id has no such luck
            return EnqueuedJob(broker, queue, job_id)

    def _enqueue_as_message(
        self,
        queue: Queue,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        when: tuple[int, bool] | None,
    ) -> EnqueuedJob[R]:
        now = int(_now() * 1000)
        message: dramatiq.Message[R] = dramatiq.Message(
            queue_name=queue.name(self.broker.store.environment),
            actor_name=self.actor_name,
            args=tuple(args),
            kwargs=dict(kwargs),
            options=dict(options),
            message_id=job.new_id(int(queue.tier), now),
            message_timestamp=now,
        )
        delay = None if when is None else when[0] - (now if when[1] else 0)
        self.broker.enqueue(message, delay=delay)
        return EnqueuedJob(self.broker, queue, message.message_id)

    def message_with_options(self, **options: Any) -> dramatiq.Message[R]:
        """A message for dramatiq's groups and pipelines."""
        now = int(_now() * 1000)
        message = super().message_with_options(**options)
        return message.copy(
            queue_name=self._full_name if self.broker.opened else "",
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
        return int(eta.timestamp() * 1000), True
    if delay is None:
        return None
    milliseconds = int(delay.total_seconds() * 1000) if isinstance(delay, timedelta) else int(delay)
    if milliseconds < 0:
        raise ValueError(f"delay must be 0 or more milliseconds, not {milliseconds}")
    return (milliseconds, False) if milliseconds else None


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
    throws: type[BaseException] | tuple[type[BaseException], ...] = (),
    timeout_ms: int | None = None,
    hard_timeout_ms: int | None = None,
    max_age_ms: int | None = None,
    result_ttl_ms: int | None = None,
    limit: Limit | None = None,
    share: float | None = None,
    check: Callable[..., None] | None = None,
    encrypt: bool = False,
    broker: RedisBroker | None = None,
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
    throws: type[BaseException] | tuple[type[BaseException], ...] = (),
    timeout_ms: int | None = None,
    hard_timeout_ms: int | None = None,
    max_age_ms: int | None = None,
    result_ttl_ms: int | None = None,
    limit: Limit | None = None,
    share: float | None = None,
    check: Callable[..., None] | None = None,
    encrypt: bool = False,
    broker: RedisBroker | None = None,
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
      max_age_ms: a job that waited longer than this is a dead letter (``expired``).
      result_ttl_ms: how long a result is kept; 0, not at all, by default.
      limit: how many jobs of the task's queue may start in a time, and run at once; all tasks of the queue share
        it. What settings say comes before it, and what an operator sets at run time before both.
      share: the part of a worker process's slots, or of its places for ``async def``, that jobs of this task may
        hold at once, such as 0.5; one at least. What is over it waits in its queue, with what stands behind it
        there, and the worker serves its other queues.
      check: called with a job's arguments at each enqueue; its error refuses the job. Binding is left to it.
      encrypt: keep arguments and result encrypted in Redis, with FOURLANE_ENCRYPTION_KEYS (docs/tasks.md).
      broker: the broker; by default the one that settings describe.
      **options: those of dramatiq's middleware.

    Raises:
      InvalidName: of the tier or service.
      SettingsError: of the limit.
      ValueError: a task of this name is declared already, or an option is not known.
    """
    if service is not None:
        check_service(service)
    if limit is not None:
        limit.check()
    if share is not None and (type(share) not in (int, float) or not 0 < share <= 1):
        raise ValueError(f"share is a part of a worker's slots, above 0 and up to 1, not {share!r}")
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
    }
    kept = {key: value for key, value in given.items() if value is not None} | options

    def declare(function: Callable[..., Any]) -> Task[Any, Any]:
        target = broker or default_broker()
        unknown = set(options) - target.actor_options
        if unknown:
            raise ValueError(f"unknown option(s) {', '.join(sorted(unknown))}: is a middleware missing?")
        return Task(
            function,
            broker=target,
            name=name or function.__name__,
            service=service,
            tier=lane,
            limit=limit,
            check=check,
            encrypt=encrypt,
            options=kept,
        )

    return declare if fn is None else declare(fn)


def default_broker() -> RedisBroker:
    """dramatiq's global broker when it is ours; else one that reads the settings when it is first used."""
    broker = dramatiq.broker.global_broker
    if not isinstance(broker, RedisBroker):

        def source() -> Any:
            from fourlane.app import open_from_settings

            return open_from_settings()

        broker = RedisBroker(source=source)
        dramatiq.set_broker(broker)
    return broker
