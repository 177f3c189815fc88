"""``@fourlane.on_event``: a function that listens to an event. It is a task of its own underneath."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, Final

import msgspec

from fourlane import job
from fourlane.errors import InvalidEvent, Reject
from fourlane.events import catalogue, offload, setup
from fourlane.events.catalogue import Handler, Through
from fourlane.events.current import handled
from fourlane.events.envelope import Envelope, Event
from fourlane.events.names import EventName, parse_event
from fourlane.events.reading import read
from fourlane.events.starter import Starter
from fourlane.queues import make
from fourlane.queues.broker import RedisBroker
from fourlane.queues.taken import Accepting
from fourlane.root import root
from fourlane.tasks.callables import check_function, is_async, is_awaitable, name_of
from fourlane.tasks.task import Task, default_broker, task
from fourlane.telling import tell

__all__ = ["accepting", "job_id", "on_event", "opened"]

_DIRECT_CATEGORIES: Final = ("audit",)
_LONGEST_ID: Final = 200


def on_event(
    name: str,
    *,
    through: Through | None = None,
    task_name: str | None = None,
    broker: RedisBroker | None = None,
    **options: Any,
) -> Callable[[Callable[[Event], Any]], Task[Any, Any]]:
    """Make a function the handler of an event: it is called with each :class:`fourlane.events.Event`.

    Several handlers of one event each get it. What a handler raises has the meaning that it has in a task.

    Parameters:
      name: ``CATEGORY.TYPE``, e.g. ``platform.user-signup``.
      through: ``queue``, the event becomes a job in Redis, with tier, retries and limits; or ``direct``, the handler
        runs straight from SQS, which keeps the event until it succeeded. ``direct`` for audit, else ``queue``.
      task_name: the task's name; ``on NAME: FUNCTION`` by default.
      **options: those of :func:`fourlane.task`: ``tier``, ``service``, ``max_retries``…

    Raises:
      InvalidName: of the event.
      ValueError: another handler of this event has this name.
      InvalidTask: the function is a generator.
    """
    event = parse_event(name, "production")
    if through not in (None, "queue", "direct"):
        raise ValueError(f"through must be 'queue' or 'direct', not {through!r}")
    way: Through = through or ("direct" if event.category in _DIRECT_CATEGORIES else "queue")
    module = sys._getframe(1).f_globals.get("__name__", "")

    def declare(function: Callable[[Event], Any]) -> Task[Any, Any]:
        check_function(function)
        target = broker or default_broker()
        title = task_name or f"on {event}: {name_of(function)}"
        made: Task[Any, Any] = task(name=title, broker=target, **options)(_dressed(function, event, title))
        catalogue.listen(Handler(event, made, way, module))
        if not any(isinstance(middleware, Starter) for middleware in target.middleware):
            target.add_middleware(Starter())
        return made

    return declare


def _dressed(function: Callable[[Event], Any], event: EventName, title: str) -> Callable[[Any], Any]:
    """The function as a task: its one argument is an envelope as JSON, or an Event."""
    if is_async(function):

        async def run_async(given: Any) -> Any:
            with _Handling(given, event, title) as checked:
                return await function(checked)

        return _named(run_async, function)

    def run(given: Any) -> Any:
        handling = _Handling(given, event, title)
        with handling as checked:
            result = function(checked)
            if is_awaitable(result):
                handling.goes_on = True
                return _go_on(handling, result)
            return result

    return _named(run, function)


def _named(run: Callable[[Any], Any], function: Callable[[Event], Any]) -> Callable[[Any], Any]:
    """With the function's name and words, but not as its wrapper: what ``function`` is says nothing of ``run``."""
    functools.update_wrapper(run, function, updated=())
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


async def _go_on(handling: _Handling, result: Any) -> Any:
    handling.goes_on = False
    with handling:
        return await result


class _Handling:
    """Around the handling of one event: the event is known to what it publishes, and observers hear of it.

    It may be entered twice, when a plain function gives something to await: which comes on another thread.
    """

    def __init__(self, given: Any, name: EventName, title: str) -> None:
        self.name, self.title = name, title
        self.event = given if isinstance(given, Event) else _open(given, name)
        self.goes_on = False
        self._began: float | None = None

    def __enter__(self) -> Event:
        self._token = handled.set(self.event)
        if self._began is None:
            self._began = monotonic()
            tell.handling(self.event, self.title)
        return self.event

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        handled.reset(self._token)
        if not self.goes_on:
            assert self._began is not None
            tell.handled(self.event, self.title, monotonic() - self._began, error)


def _open(given: Any, name: EventName) -> Event:
    """Raises Reject for what can never be handled."""
    try:
        return opened(read(msgspec.json.encode(given)), name)
    except InvalidEvent as error:
        raise Reject(str(error)) from None


def opened(received: Envelope, name: EventName) -> Event:
    """The event, with its data from wherever it lies. Raises InvalidEvent, EventsUnavailable."""
    if received.dataref:
        received = offload.fetch(*root().part(setup.large_data), received)
    return Event.of(received, name)


def job_id(received: Envelope, handler: Handler, again: str = "") -> str:
    """The id of the job that this event makes for this handler. ``again`` tells a replay from the first time."""
    title = f"{received.unique_id}:{handler.name}{'#' + again if again else ''}"
    if len(title) > _LONGEST_ID or "|" in title or not title.isprintable():
        title = hashlib.sha256(title.encode()).hexdigest()
    return job.id_of_message(title, handler.task.queue.tier)


def accepting(handler: Handler, text: bytes, received: Envelope, again: str = "") -> Accepting:
    """The job of this event, written as ``text``, for this handler; its id is the same each time.

    Raises EncryptionError.
    """
    stored, happened_ms = job_id(received, handler, again), max(0, received.time_ms)
    made = make.body_of_parts(
        handler.name,
        b"[" + text + b"]",
        b"{}",
        received.job_options,
        job_id=stored,
        sealed=bool(handler.task.encrypt),
        enqueued_ms=happened_ms,
    )
    return Accepting(job.entry_of(stored, happened_ms), made, received.deliver_at_ms)
