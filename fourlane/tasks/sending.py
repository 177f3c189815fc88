"""A task, and the ways to send it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

import dramatiq
from dramatiq.asyncio import get_event_loop_thread

from fourlane import job
from fourlane.errors import DuplicateJob, Reject
from fourlane.names import Queue, Tier
from fourlane.options import Encrypt, check_declared, check_encrypt, check_given
from fourlane.queues import carry, make
from fourlane.queues.broker import Defaults, RedisBroker
from fourlane.queues.dramatiq_errors import closed_to_dramatiq
from fourlane.queues.limit import Limit
from fourlane.queues.store import Delayed
from fourlane.tasks.callables import check_function, is_async
from fourlane.tasks.enqueued import EnqueuedJob
from fourlane.when import When, when_of

__all__ = ["Task"]

P = ParamSpec("P")
R = TypeVar("R")


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
        lines: make.Lines | None = None,
        encrypt: Encrypt = False,
        options: dict[str, Any],
    ) -> None:
        self.tier = tier
        self.limit = limit
        self.check = check
        self.lines = lines
        self.encrypt = check_encrypt(encrypt)
        self._service = service
        self._stub = not isinstance(broker, RedisBroker)
        self.original = fn
        check_function(fn)
        kept = check_declared(options)
        if self._stub:
            kept = _for_dramatiq(kept)
        super().__init__(fn, broker=broker, actor_name=name, queue_name="", priority=0, options=kept)

    broker: RedisBroker

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself.

        In a coroutine, an ``async def`` one gives something to await. Elsewhere it is run to its end: on the loop of
        the program's ``AsyncIO`` where there is one, else on one of its own.
        """
        if not is_async(self.original):
            return super().__call__(*args, **kwargs)
        if asyncio._get_running_loop() is not None:
            return self.original(*args, **kwargs)
        if get_event_loop_thread() is not None:
            return super().__call__(*args, **kwargs)
        return cast(R, asyncio.run(cast("Coroutine[Any, Any, Any]", self.original(*args, **kwargs))))

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
        when = when_of(delay, eta)
        if options:
            options = self.message_with_options(**options).options
        if tenant is not None:
            options["tenant"] = tenant
        return self._enqueue(args, {} if kwargs is None else kwargs, options, when, tier)

    @closed_to_dramatiq
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
        own = {} if tenant is None else {"tenant": tenant}
        jobs = [(tuple(c), {}) if isinstance(c, (list, tuple)) else ((), dict(c)) for c in calls]
        if self._stub or self.broker.tells_of_enqueue:
            return [self._enqueue(args, kwargs, own, None) for args, kwargs in jobs]
        broker, queue = self.broker, self.queue
        made = make.draft(self.actor_name, self, own, broker.actors)
        ids = make.accepted(made, queue, self._name_of, self._send_all, jobs, number=len(jobs))
        keeps = self._keeps_result(own, self._defaults)
        sealed = made.sealed
        return [EnqueuedJob(broker, queue, i, accepted=True, keeps_result=keeps, is_sealed=sealed) for i in ids]

    async def asend(self, *args: P.args, **kwargs: P.kwargs) -> EnqueuedJob[R]:
        """As send, without blocking the event loop."""
        return await asyncio.to_thread(self._enqueue, args, kwargs, {}, None)

    async def asend_with_options(self, **options: Any) -> EnqueuedJob[R]:
        """As send_with_options, without blocking the event loop."""
        return await asyncio.to_thread(self.send_with_options, **options)

    async def asend_many(self, calls: Iterable[Any], *, tenant: str | UUID | None = None) -> list[EnqueuedJob[R]]:
        """As send_many, without blocking the event loop."""
        return await asyncio.to_thread(self.send_many, calls, tenant=tenant)

    @closed_to_dramatiq
    def _enqueue(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        when: When | None,
        tier: Tier | str | int | None = None,
    ) -> EnqueuedJob[R]:
        broker = self.broker
        defaults = self._defaults
        queue = Queue(self._service or defaults.service, self.tier if tier is None else Tier.parse(tier))
        made = make.draft(self.actor_name, self, options, broker.actors)
        send = self._send_message if self._stub or broker.tells_of_enqueue else self._send
        job_id = make.accepted(made, queue, self._name_of, send, args, kwargs, when)
        keeps = self._keeps_result(options, defaults)
        return EnqueuedJob(broker, queue, job_id, accepted=True, keeps_result=keeps, is_sealed=made.sealed)

    def _send(
        self, made: make.Draft, queue: Queue, args: Sequence[Any], kwargs: Mapping[str, Any], when: When | None
    ) -> str:
        opened, tier, now = self.broker.opened, int(queue.tier), self._now_ms(made.options)
        while True:
            job_id = job.new_id(tier, now)
            body = made.body(job_id, args, kwargs, max_bytes=opened.defaults.max_body_bytes)
            try:
                if when is None:
                    opened.store.enqueue(queue.service, tier, (job_id, body))
                else:
                    opened.store.delay(queue.service, [Delayed(job_id, body, *when)])
                return job_id
            except DuplicateJob:
                continue  # one chance in billions; another id has no such luck

    def _send_all(
        self, made: make.Draft, queue: Queue, jobs: Sequence[tuple[Sequence[Any], Mapping[str, Any]]]
    ) -> list[str]:
        opened, now = self.broker.opened, self._now_ms(made.options)
        return make.enqueue_many(made, queue, opened.store, jobs, now, max_bytes=opened.defaults.max_body_bytes)

    def _send_message(
        self, made: make.Draft, queue: Queue, args: Sequence[Any], kwargs: Mapping[str, Any], when: When | None
    ) -> str:
        now = self._now_ms(made.options)
        message: dramatiq.Message[R] = dramatiq.Message(
            queue_name=self._name_of(queue),
            actor_name=self.actor_name,
            args=tuple(args),
            kwargs=dict(kwargs),
            options=dict(made.options),
            message_id=job.new_id(int(queue.tier), now),
            message_timestamp=now,
        )
        delay = None if when is None else when.delay_ms(now)
        if self._stub:
            if self.check is not None:
                carry.look(self.check, int(queue.tier), made.options, args, kwargs)
            self.broker.declare_queue(message.queue_name)
        self.broker.enqueue(message, delay=delay)
        return message.message_id

    def _keeps_result(self, options: Mapping[str, Any], defaults: Defaults) -> bool:
        own = self.options.get("result_ttl_ms", defaults.result_ttl_ms)
        return bool(options.get("result_ttl_ms", own))

    def _now_ms(self, options: Mapping[str, Any]) -> int:
        """What a job's id says of its time: Redis's, where its age matters, for it is judged by Redis's clock."""
        if not self._stub and ("max_age" in options or "max_age" in self.options):
            return self.broker.store.clock.now_ms()
        return int(time.time() * 1000)

    @closed_to_dramatiq
    def message_with_options(self, **options: Any) -> dramatiq.Message[R]:
        """A message for dramatiq's groups and pipelines. Raises InvalidOption."""
        message = super().message_with_options(**options)
        sent = check_given(message.options)
        now = self._now_ms(sent)
        return message.copy(
            options=sent,
            queue_name=self._full_name,
            message_id=job.new_id(int(self.tier), now),
            message_timestamp=now,
        )

    def __repr__(self) -> str:
        return f"Task({self.actor_name!r}, service={self._service!r}, tier={self.tier.name})"


_OF_STUBS = Defaults()


def _for_dramatiq(options: dict[str, Any]) -> dict[str, Any]:
    """A task's options as dramatiq's own middleware ``Retries`` reads them."""
    backoff = options.get("backoff")
    waits = {} if backoff is None else {"min_backoff": backoff.min_ms, "max_backoff": backoff.max_ms}
    return {**waits, **options, "throws": (*options.get("throws", ()), Reject)}
