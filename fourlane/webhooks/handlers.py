"""Functions that webhooks run: ``@on_webhook("stripe", "invoice.paid")`` makes one a task, and says for which events.

An accepted event is a job, `handle`. It looks up who asked for such events, and enqueues a job for each of them under
the event's id and the handler's name: so each handler has retries of its own, and a repetition of `handle` (a crash, a
replay) adds none twice while the id is remembered.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final

from fourlane import job
from fourlane.errors import DuplicateJob
from fourlane.names import Queue, Tier
from fourlane.queues import make
from fourlane.queues.broker import RedisBroker
from fourlane.queues.latest import Latest
from fourlane.retry import Backoff
from fourlane.tasks.callables import check_function, is_async, is_awaitable, name_of
from fourlane.tasks.task import Task, task
from fourlane.webhooks.verify import PROVIDERS, Verified

__all__ = [
    "REMEMBERED_MS",
    "SERVICE",
    "Event",
    "enqueue_once",
    "event_of",
    "forward_webhook",
    "handle",
    "handlers_of",
    "on_webhook",
]

SERVICE: Final = "webhooks"
REMEMBERED_MS: Final = 8 * 86_400_000
"""How long an event's id is remembered: Stripe and PayPal send an event again for three days at most."""

_RETRIES: Final[dict[str, Any]] = {"max_retries": 3, "backoff": Backoff(min_ms=1_000, max_ms=4_000, jitter=False)}
"""After 1, 2 and 4 seconds, as the platform has it for webhooks; then it is a dead letter."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a handler gets.

    Parameters:
      id: the event's id at the provider.
      type: e.g. ``invoice.paid``.
      created_at_ms: when it happened, if the event says.
      subject: the id of the thing that it happened to; empty when it names none.
      payload: the event's JSON.
      late: an event of the same subject that happened after this one has been handled already, by this handler.
    """

    provider: str
    id: str
    type: str
    created_at_ms: int | None
    subject: str
    payload: dict[str, Any]
    late: bool = False


def event_of(verified: Verified) -> dict[str, Any]:
    """The fields of an `Event`, as a job carries them. Its payload is no copy, which a deep one would make recurse."""
    event = Event(
        verified.provider,
        verified.id,
        verified.type,
        verified.created_at_ms,
        verified.subject,
        verified.payload,
    )
    return {field.name: getattr(event, field.name) for field in fields(event)}


@dataclass(frozen=True, slots=True)
class _Handler:
    provider: str
    pattern: str
    task: Task[Any, Any]

    def wants(self, provider: str, type: str) -> bool:
        if provider != self.provider:
            return False
        beginning, star, _ = self.pattern.partition("*")
        return type.startswith(beginning) if star else type == self.pattern


_handlers: list[_Handler] = []


def on_webhook(
    provider: str, pattern: str, *, name: str | None = None, service: str = SERVICE, **options: Any
) -> Callable[[Callable[[Event], Any]], Task[Any, Any]]:
    """Run a function for events of a type, as a task. It must bear to be run twice for one event.

    An ``async def`` runs as every async task, on the worker's event loop.

    Events may come in another order than they happened. ``event.late`` tells a handler; one that writes the state of a
    thing should leave it alone then.

    Parameters:
      provider: ``stripe``, ``paypal`` or ``supabase``.
      pattern: a type, or the beginning of one and a star: ``invoice.*``, ``*``.
      name, service, **options: those of `fourlane.task`; but there are 3 retries, after 1, 2 and 4 seconds.

    Raises:
      ValueError: no such provider, or a star that is not at the end.
      InvalidTask: the function is a generator.
    """
    if provider not in PROVIDERS:
        raise ValueError(f"{provider!r} sends no webhooks that are known; use {', '.join(PROVIDERS)}")
    if "*" in pattern[:-1] or not pattern:
        raise ValueError(f"{pattern!r} is no event type; write it in full, or its beginning and a star: 'invoice.*'")

    def declare(function: Callable[[Event], Any]) -> Task[Any, Any]:
        check_function(function)

        async def run_async(event: dict[str, Any]) -> Any:
            return await _run_async(made, function, Event(**event))

        def run(event: dict[str, Any]) -> Any:
            return _run(made, function, Event(**event))

        title = name or f"{function.__module__}.{getattr(function, '__qualname__', '') or name_of(function)}"
        made = task(name=title, service=service, **_retries(options))(run_async if is_async(function) else run)
        _handlers.append(_Handler(provider, pattern, made))
        return made

    return declare


def _retries(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with the usual retries where they do not say otherwise."""
    own_times = not options.keys().isdisjoint(("min_backoff", "max_backoff"))
    return {name: value for name, value in _RETRIES.items() if not (own_times and name == "backoff")} | options


def forward_webhook(provider: str, pattern: str, event_name: str, **options: Any) -> Task[Any, Any]:
    """Publish a provider's events on a stream, by a handler like any other.

    Parameters:
      provider, pattern, **options: those of `on_webhook`.
      event_name: ``CATEGORY.TYPE``, e.g. ``platform.payment-received``. Its data are the provider's name, id, type and
        payload; its id is the same however often it is published.
    """
    from fourlane import events
    from fourlane.events.names import parse_event

    parse_event(event_name, "local")  # a name that is none is told here, and not at the first event

    def publish(event: Event) -> None:
        when = None if event.created_at_ms is None else datetime.fromtimestamp(event.created_at_ms / 1000, UTC)
        data = {"provider": event.provider, "id": event.id, "type": event.type, "payload": event.payload}
        events.publish(event_name, data, id=f"{event.provider}:{event.id}", key=event.subject, time=when)

    name = f"fourlane.webhooks.forward:{provider}:{pattern}:{event_name}"
    return on_webhook(provider, pattern, **{"name": name} | options)(publish)


def _run(made: Task[Any, Any], function: Callable[[Event], Any], event: Event) -> Any:
    result = function(_with_lateness(made, event))
    if is_awaitable(result):
        return _go_on(made, result, event)
    _mark(made, event)
    return result


async def _run_async(made: Task[Any, Any], function: Callable[[Event], Any], event: Event) -> Any:
    return await _go_on(made, function(await asyncio.to_thread(_with_lateness, made, event)), event)


async def _go_on(made: Task[Any, Any], result: Any, event: Event) -> Any:
    result = await result
    await asyncio.to_thread(_mark, made, event)
    return result


def _with_lateness(made: Task[Any, Any], event: Event) -> Event:
    if event.created_at_ms is None or not event.subject:
        return event
    late = event.created_at_ms < Latest(made.broker.store).of(made.service, _order_key(made, event))
    return replace(event, late=late)


def _mark(made: Task[Any, Any], event: Event) -> None:
    """After the run: one that failed has handled nothing."""
    if event.created_at_ms is not None and event.subject:
        latest = Latest(made.broker.store)
        latest.tell(made.service, _order_key(made, event), event.created_at_ms, ttl_ms=REMEMBERED_MS)


def _order_key(made: Task[Any, Any], event: Event) -> str:
    return f"{made.actor_name}:{_short(f'{event.provider}:{event.subject}')}"


def handlers_of(provider: str, type: str) -> list[Task[Any, Any]]:
    """The tasks that asked for events of this type."""
    return [handler.task for handler in _handlers if handler.wants(provider, type)]


@task(name="fourlane.webhooks.handle", service=SERVICE, tier=Tier.P1, **_RETRIES)
def handle(event: dict[str, Any]) -> list[str]:
    """Enqueue a job for each handler of an event. The result is their ids."""
    return [
        enqueue_once(made, [event], key=f"{event['provider']}:{event['id']}")
        for made in handlers_of(event["provider"], event["type"])
    ]


def enqueue_once(made: Task[Any, Any], args: list[Any], *, key: str) -> str:
    """Enqueue a job unless this task had one under this key. Returns the id of the job that has the key.

    Raises:
      JobTooLarge, InvalidArguments: of the arguments.
      RedisUnavailable: it is not known to be accepted; the same call may be repeated.
      LeaseLost: the run that sends it lost its own job.
    """
    once = f"{made.actor_name}:{_short(key)}"
    draft = make.draft(made.actor_name, made, {}, made.broker.actors)
    return make.accepted(draft, made.queue, made.broker.name_of, _accept_once, made.broker, args, once)


def _accept_once(draft: make.Draft, queue: Queue, broker: RedisBroker, args: list[Any], key: str) -> str:
    opened, tier = broker.opened, int(queue.tier)
    while True:
        job_id = job.new_id(tier, int(time.time() * 1000))
        body = draft.body(job_id, args, {}, max_bytes=opened.defaults.max_body_bytes)
        try:
            return opened.store.enqueue_once(queue.service, tier, job_id, body, key=key, ttl_ms=REMEMBERED_MS)
        except DuplicateJob:
            continue  # one chance in billions; another id has no such luck


def _short(text: str) -> str:
    """The provider's text, fit for a key."""
    return text if len(text) <= 100 and text.isascii() else hashlib.sha256(text.encode()).hexdigest()
