"""RedisBroker: dramatiq's door to the store. Messages become jobs, jobs become messages."""

from __future__ import annotations

import random
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

import dramatiq
import msgspec
from dramatiq.broker import Consumer
from dramatiq.errors import QueueJoinTimeout, QueueNotFound
from dramatiq.middleware import (
    AgeLimit,
    Callbacks,
    GroupCallbacks,
    Middleware,
    MiddlewareError,
    Pipelines,
    Retries,
    ShutdownNotifications,
    TimeLimit,
)

from fourlane import job
from fourlane.codec import SENT_AS
from fourlane.errors import DuplicateJob, InvalidArguments
from fourlane.names import Queue, parse_queue
from fourlane.options import LONGEST_DELAY_MS, check_sent
from fourlane.queues import carry, make
from fourlane.queues.dramatiq_errors import closed_to_dramatiq
from fourlane.queues.groups import MemberCallbacks
from fourlane.queues.in_process import in_process, taken_as_retry, taking_retry
from fourlane.queues.opening import Defaults, Opened, opening_here, opening_with
from fourlane.queues.redis import client_of
from fourlane.queues.store import Delayed, Store
from fourlane.when import When, when_of

__all__ = ["Defaults", "Opened", "RedisBroker", "made"]

NATIVE: Final = (AgeLimit, TimeLimit, ShutdownNotifications, Callbacks, Pipelines, Retries)
"""Middleware whose work Fourlane's worker does itself, where a job asks for it, instead of calling its hooks."""


made: Final[weakref.WeakSet[RedisBroker]] = weakref.WeakSet()
"""All that this program has made, as far as they live."""


class RedisBroker(dramatiq.Broker):
    """A dramatiq broker on Fourlane's queues.

    Parameters:
      url: e.g. ``rediss://user:password@host:6379``, with ``?cluster=true`` behind it for a node of a cluster. Where
        neither it nor another server is named, all that is not given here is what the settings say:
        ``RedisBroker()`` works on the server of ``fourlane worker``.
      client: a ``redis.Redis`` or ``redis.RedisCluster`` to take the place of ``url``.
      middleware: as dramatiq's. By default dramatiq's own default list.
      namespace: what all keys begin with.
      environment: ``local``, ``staging`` or ``production``; part of every queue's name.
      dead_message_ttl: milliseconds to keep dead letters.
      dead_max: dead letters to keep in each queue.
      crash_limit: workers that may die running a job before it is a dead letter (poison).
      defaults: what tasks take when they do not say otherwise.

    What is not said of these, from ``namespace`` on, is as in the settings (FOURLANE_NAMESPACE, FOURLANE_ENVIRONMENT
    and so on), for a worker reads them too. They are read on first use.

      source: gives all of this on first use, for a broker that is made before settings are read.
      **parameters: passed to ``redis.Redis``, as dramatiq's broker does.

    ``maintenance_chance``, ``heartbeat_timeout``, ``requeue_deadline`` and ``requeue_interval`` of dramatiq's broker
    are taken and have no meaning here: nothing depends on chance, and a worker's silence of 5 s is its death.
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        client: Any = None,
        middleware: list[Middleware] | None = None,
        namespace: str | None = None,
        environment: str | None = None,
        dead_message_ttl: int | None = None,
        dead_max: int | None = None,
        crash_limit: int | None = None,
        defaults: Defaults | None = None,
        source: Callable[[], Opened] | None = None,
        maintenance_chance: int = 0,
        heartbeat_timeout: int = 0,
        requeue_deadline: int | None = None,
        requeue_interval: int | None = None,
        **parameters: Any,
    ) -> None:
        self._hooks: dict[str, list[Any]] = {}
        self.tells_of_enqueue = False
        """Middleware hears of what is enqueued, as messages."""
        self._adds_middleware = False
        self._parsed: dict[str, Queue] = {}
        self.on_declared: Callable[[dramatiq.Actor[Any, Any]], None] | None = None
        """In a worker: told of each actor that is declared from then on."""
        self._encoder_told = False
        made.add(self)
        self._opened: Opened | None = None
        self._opening = threading.Lock()

        given = {
            "namespace": namespace,
            "environment": environment,
            "dead_ttl_ms": dead_message_ttl,
            "dead_max": dead_max,
            "crash_limit": crash_limit,
            "defaults": defaults,
        }
        said = {name: value for name, value in given.items() if value is not None}

        def open_from_settings() -> Opened:
            return msgspec.structs.replace(opening_here(), **said).open()

        def open_from_arguments() -> Opened:
            return opening_with(**said).open_on(client or (client_of(url) if url else _client(parameters)))

        if source is None:
            names_server = url is not None or client is not None or bool(parameters)
            source = open_from_arguments if names_server else open_from_settings
        self._source = source
        super().__init__(middleware=middleware)
        self.queues: set[str] = set()

    @property
    def opened(self) -> Opened:
        """The store and the defaults, read on first use."""
        if self._opened is None:
            with self._opening:
                if self._opened is None:
                    self._opened = self._source()
        return self._opened

    @property
    def store(self) -> Store:
        return self.opened.store

    @property
    def client(self) -> Any:
        """The redis client, as dramatiq's broker has it."""
        return self.store.connector.client

    # Hooks --------------------------------------------------------------------------------------------------

    def add_middleware(self, middleware: Middleware, **place: Any) -> None:
        if type(middleware) is GroupCallbacks:
            middleware = MemberCallbacks(middleware, lambda: self.store)
        self._adds_middleware = True  # which asks for the queues declared so far: nothing is opened for that
        try:
            super().add_middleware(middleware, **place)
        finally:
            self._adds_middleware = False
        self._hooks.clear()
        self.tells_of_enqueue = bool(self.hooks("before_enqueue") or self.hooks("after_enqueue"))

    def hooks(self, signal: str, *, native: bool = True) -> list[Any]:
        """The methods that really override a signal, so that the others cost nothing."""
        name = signal if native else signal + " without native"
        found = self._hooks.get(name)
        if found is None:
            found = [
                getattr(m, signal)
                for m in self.middleware
                if getattr(type(m), signal, None) is not getattr(Middleware, signal)
                and (native or type(m) not in NATIVE)
            ]
            if signal.startswith("after_"):
                found.reverse()
            self._hooks[name] = found
        return found

    def emit_before(self, signal: str, *args: Any, **kwargs: Any) -> None:
        if signal == "worker_boot":
            self.get_declared_queues()  # dramatiq's Worker consumes what is declared, and a task's queue is not yet
        self.call_hooks(self.hooks("before_" + signal), args, kwargs)
        if signal == "process_message":
            in_process.message = args[0]

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        processed = signal == "process_message"
        failed = processed and kwargs.get("exception") is not None
        sealed = processed and getattr(args[0], "sealed", False)
        try:
            with taking_retry(args[0]) if failed else nullcontext(), carry.sealing(sealed):
                self.call_hooks(self.hooks("after_" + signal), args, kwargs)
        finally:
            if signal in ("process_message", "skip_message"):
                in_process.message = None

    def call_hooks(self, hooks: list[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Call hooks as dramatiq does: a MiddlewareError goes on, any other error is logged."""
        for hook in hooks:
            try:
                hook(self, *args, **kwargs)
            except MiddlewareError:
                raise
            except Exception:
                self.logger.critical("Unexpected failure in %r.", hook, exc_info=True)

    # Queues -------------------------------------------------------------------------------------------------

    def queue_of(self, name: str) -> Queue:
        """The queue that a name means. Raises InvalidName.

        dramatiq's own names may have dots (``emails.bulk``): with ``-`` in their place they are a service's.
        """
        queue = self._parsed.get(name)
        if queue is None:
            plain = name in self.queues and "." in name and "jobs" not in name.split(".")
            queue = parse_queue(name.replace(".", "-") if plain else name, self.store.environment)
            self._parsed[name] = queue
        return queue

    def name_of(self, queue: Queue) -> str:
        return queue.name(self.store.environment)

    def declare_actor(self, actor: dramatiq.Actor[Any, Any]) -> None:
        """Declare an actor, and its queue, but not that of a task: a task's queue is named when settings are read."""
        if actor.queue_name:
            super().declare_actor(actor)
        else:
            self.emit_before("declare_actor", actor)
            self.actors[actor.actor_name] = actor
            self.emit_after("declare_actor", actor)
        if self.on_declared is not None:
            self.on_declared(actor)

    def declare_queue(self, queue_name: str) -> None:
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    @closed_to_dramatiq
    def get_declared_queues(self) -> set[str]:
        """The queues of all actors and tasks. Reads the settings."""
        if not self._adds_middleware:
            self.opened  # noqa: B018 - from now on tasks know their queues
            for actor in self.actors.values():
                self.declare_queue(actor.queue_name)
        return self.queues.copy()

    @closed_to_dramatiq
    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """A consumer for dramatiq's own Worker."""
        from fourlane.queues.consumer import LeaseConsumer

        if queue_name not in self.get_declared_queues():
            raise QueueNotFound(queue_name)  # type: ignore[no-untyped-call]
        return LeaseConsumer(self, queue_name, prefetch, timeout)

    # Enqueue ------------------------------------------------------------------------------------------------

    @closed_to_dramatiq
    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Accept a message; returns only after Redis did. The same message may be enqueued again: each call is a job.

        Parameters:
          delay: milliseconds from now until it may run.

        Raises:
          InvalidArguments, InvalidOption, JobTooLarge, RedisUnavailable
        """
        if not self._encoder_told and type(dramatiq.get_encoder()) is not dramatiq.JSONEncoder:
            self._tell_of_encoder()
        self.emit_before("enqueue", message, delay)
        if not taken_as_retry(message, delay):
            name, when = message.actor_name, when_of(delay)
            made = make.draft(name, self.actors.get(name), check_sent(message.options), self.actors)
            queue = self.queue_of(message.queue_name)
            make.accepted(made, queue, self.name_of, self._accept, message, when)
        self.emit_after("enqueue", message, delay)
        return message

    def _tell_of_encoder(self) -> None:
        self._encoder_told = True
        self.logger.warning(
            "%s, which dramatiq.set_encoder() was given, is not used for jobs: their arguments are kept as JSON, and "
            "what JSON cannot carry is refused (docs/tasks.md)", type(dramatiq.get_encoder()).__name__,
        )  # fmt: skip

    def _accept(self, made: make.Draft, queue: Queue, message: dramatiq.Message[Any], when: When | None) -> None:
        job_id = job.id_of_message(message.message_id, queue.tier)
        while True:
            try:
                return self._accept_as(job_id, made, queue, message, when)
            except DuplicateJob:  # it was enqueued before and is not over yet, or runs here: this is another job of it
                job_id = job.new_id(int(queue.tier), self._accepted_at_ms(message))
                made = make.with_options(made, {**made.options, SENT_AS: message.message_id})

    def _accept_as(
        self, job_id: str, made: make.Draft, queue: Queue, message: dramatiq.Message[Any], when: When | None
    ) -> None:
        body = made.body(
            job_id,
            message.args,
            message.kwargs,
            enqueued_ms=_timestamp_ms(message) if job_id[1] == "." else 0,
            call=random.getrandbits(32) + 1,
            max_bytes=self.opened.defaults.max_body_bytes,
        )
        if when is not None:
            self.store.delay(queue.service, [Delayed(job_id, body, *when)])
        else:
            entry = job.entry_of(job_id, self._accepted_at_ms(message))
            self.store.enqueue(queue.service, int(queue.tier), (entry, body))

    def _accepted_at_ms(self, message: dramatiq.Message[Any]) -> int:
        """What a job's age counts from: by Redis's clock where its age matters, for a worker's own differs."""
        actor = self.actors.get(message.actor_name)
        limits = [message.options.get("max_age"), None if actor is None else actor.options.get("max_age")]
        limits += [m.max_age for m in self.middleware if isinstance(m, AgeLimit)]
        return self.store.clock.now_ms() if any(limits) else _timestamp_ms(message)

    # For tests ----------------------------------------------------------------------------------------------

    @closed_to_dramatiq
    def flush(self, queue_name: str) -> None:
        """Drop the waiting and delayed jobs of a queue."""
        from fourlane.queues.control import purge

        purge(self.store, self.queue_of(queue_name))

    def flush_all(self) -> None:
        for name in self.queues:
            self.flush(name)

    @closed_to_dramatiq
    def join(self, queue_name: str, *, interval: int = 20, timeout: int | None = None) -> None:
        """Wait until the queue's service has nothing ready, delayed or running.

        Raises:
          QueueJoinTimeout: after ``timeout`` milliseconds.
        """
        from fourlane.queues.browse import unfinished

        service = self.queue_of(queue_name).service
        deadline = time.monotonic() + timeout / 1000 if timeout is not None else None
        while True:
            if not unfinished(self.store, service):
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise QueueJoinTimeout(queue_name)  # type: ignore[no-untyped-call]
            time.sleep(interval / 1000)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.store.connector.close()


def _client(parameters: dict[str, Any]) -> Any:
    """As dramatiq's broker makes one."""
    import redis

    return redis.Redis(**parameters)


def _timestamp_ms(message: dramatiq.Message[Any]) -> int:
    """Of packages that build messages themselves it may be a float. Raises InvalidArguments."""
    given = message.message_timestamp
    if not isinstance(given, (int, float)) or not 0 <= given <= LONGEST_DELAY_MS:
        raise InvalidArguments(f"message_timestamp={given!r}: it must be a number of milliseconds since 1970")
    return int(given)
