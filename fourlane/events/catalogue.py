"""Which events there are, as the program declares them, and which handlers listen to them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
from pydantic import BaseModel, ValidationError

from fourlane import codec
from fourlane.errors import InvalidArguments, InvalidEvent
from fourlane.events.names import EventName, EventQueue, parse_event

if TYPE_CHECKING:
    from fourlane.tasks.task import Task

__all__ = ["EventType", "Handler", "Through", "declare", "declared", "handlers", "listen", "modules", "of", "queue_of"]

Through = Literal["queue", "direct"]
_SHOWN_FAULTS: Final = 3


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event: what its data must look like, and whether its queue keeps order."""

    name: EventName
    model: type[BaseModel] | None = None
    fifo: bool = False
    version: str = "1"
    module: str = field(default="", compare=False)

    def to_json(self, data: Any) -> bytes:
        """The data as JSON, checked. Raises InvalidEvent."""
        if self.model is None:
            try:
                return codec.encode_value(data.model_dump(mode="json") if isinstance(data, BaseModel) else data, "data")
            except InvalidArguments as error:
                raise InvalidEvent(f"event {self.name}: {error}") from None
        try:
            instance = data if isinstance(data, self.model) else self.model.model_validate(data)
            return instance.model_dump_json(by_alias=True).encode()
        except ValidationError as error:
            raise self._broken(error) from None
        except UnicodeEncodeError as error:
            raise InvalidEvent(f"event {self.name}: data: {error}") from None

    def from_json(self, data: bytes) -> Any:
        """An instance of the model, or plain data without one. Raises InvalidEvent."""
        if self.model is None:
            try:
                return msgspec.json.decode(data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise InvalidEvent(f"event {self.name}: the data cannot be read: {error}") from None
        try:
            return self.model.model_validate_json(data)
        except ValidationError as error:
            raise self._broken(error) from None

    def _broken(self, error: ValidationError) -> InvalidEvent:
        assert self.model is not None
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        told = [f"{'.'.join(map(str, fault['loc'])) or 'data'}: {fault['msg']}" for fault in faults[:_SHOWN_FAULTS]]
        if len(faults) > _SHOWN_FAULTS:
            told.append(f"and {len(faults) - _SHOWN_FAULTS} more")
        return InvalidEvent(f"event {self.name} breaks its model {self.model.__name__}: {'; '.join(told)}")


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that listens to an event."""

    event: EventName
    task: Task[Any, Any]
    through: Through
    module: str = field(compare=False)

    @property
    def name(self) -> str:
        return self.task.actor_name


_types: dict[EventName, EventType] = {}
_handlers: dict[EventName, list[Handler]] = {}


def declare(
    name: str, model: type[BaseModel] | None = None, *, fifo: bool = False, version: str | int = "1"
) -> EventType:
    """Say what an event looks like; publishers and consumers check it.

    Parameters:
      name: ``CATEGORY.TYPE``, e.g. ``platform.user-signup``.
      model: the pydantic model of its data; without one any JSON will do.
      fifo: its queue is first in, first out, by key.
      version: of the data's schema; travels with each event.

    Raises:
      InvalidName: of the event.
      ValueError: it is declared already, and differently.
    """
    event = parse_event(name, "production", fifo=fifo)  # the longest environment: good for all
    kind = EventType(event, model, fifo, str(version), sys._getframe(1).f_globals.get("__name__", ""))
    known = _types.get(event)
    if known is not None and known != kind:
        raise ValueError(f"event {event} is declared already, in {known.module}, and differently")
    _types[event] = kind
    return kind


def of(event: EventName) -> EventType:
    """What is declared of an event; one that is not declared takes any JSON."""
    return _types.get(event) or EventType(event)


def queue_of(event: EventName, environment: str) -> EventQueue:
    """The event's SQS queue."""
    return EventQueue(environment, event, of(event).fifo)


def listen(handler: Handler) -> None:
    """Add a handler."""
    _handlers.setdefault(handler.event, []).append(handler)


def handlers() -> dict[EventName, list[Handler]]:
    """All handlers, by event."""
    return _handlers


def declared() -> list[EventType]:
    """The events that the program knows: declared or listened to."""
    return [of(event) for event in sorted({*_types, *_handlers})]


def modules() -> list[str]:
    """The modules that declare events and handlers: what another process imports to know them too."""
    found = [kind.module for kind in _types.values()]
    found += [handler.module for several in _handlers.values() for handler in several]
    return sorted({module for module in found if module and module != "__main__"})
