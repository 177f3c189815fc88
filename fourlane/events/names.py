"""Names of events and streams, and of their SQS queues, both ways. Pure.

An event is named ``{env}.events.{category}.{type}``, e.g. ``staging.events.platform.user-signup``; inside a program the
environment is known and ``platform.user-signup`` is enough. SQS allows letters, digits, ``-`` and ``_``, 80 characters:

==========================  ==========================================  =============================================
what                        SQS name                                    example
==========================  ==========================================  =============================================
the event's queue           ``{env}-events-{category}-{type}``          ``staging-events-platform-user-signup``
its dead-letter queue       the same and ``__dead``                     ``staging-events-platform-user-signup__dead``
either, first in first out  the same and ``.fifo``                      ``staging-events-audit-login__dead.fifo``
==========================  ==========================================  =============================================

It can be read back because neither environments nor categories have a ``-``, and types have no ``__``.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from fourlane.errors import InvalidName
from fourlane.names import ENVIRONMENTS

__all__ = ["CATEGORIES", "SQS_NAME_CHARACTERS", "EventName", "EventQueue", "parse_event", "parse_sqs", "sqs_prefix"]

CATEGORIES: Final = ("platform", "audit", "analytics", "notification")
SQS_NAME_CHARACTERS: Final = 80
_DEAD: Final = "__dead"
_FIFO: Final = ".fifo"
_TYPE: Final = re.compile(r"[a-z](?:[a-z0-9]|[-_](?=[a-z0-9]))*")
_SQS: Final = re.compile(
    rf"(?P<env>[a-z]+)-events-(?P<category>[a-z]+)-(?P<type>.+?)(?P<dead>{_DEAD})?(?P<fifo>{re.escape(_FIFO)})?"
)


class EventName(NamedTuple):
    """A kind of event: its category, and its type within."""

    category: str
    type: str

    def __str__(self) -> str:
        return f"{self.category}.{self.type}"

    @property
    def stream(self) -> str:
        """The stream that carries it, e.g. ``platform-events``."""
        return f"{self.category}-events"

    def full(self, environment: str) -> str:
        """``{env}.events.{category}.{type}``"""
        return f"{environment}.events.{self.category}.{self.type}"


class EventQueue(NamedTuple):
    """The SQS queue of an event, or its dead-letter queue."""

    environment: str
    event: EventName
    fifo: bool = False
    dead: bool = False

    @property
    def sqs_name(self) -> str:
        """Its name in SQS."""
        name = f"{self.environment}-events-{self.event.category}-{self.event.type}"
        return name + (_DEAD if self.dead else "") + (_FIFO if self.fifo else "")

    @property
    def dead_letters(self) -> EventQueue:
        """Its dead-letter queue."""
        return self._replace(dead=True)

    @property
    def source(self) -> EventQueue:
        """The queue whose dead letters it holds."""
        return self._replace(dead=False)


def parse_event(name: str, environment: str, *, fifo: bool = False) -> EventName:
    """Read ``platform.user-signup``, ``events.platform.user-signup`` or the full name of this environment.

    Raises:
      InvalidName: it is no such name, of another environment, or its queues' names would be too long for SQS.
    """
    parts = name.split(".") if isinstance(name, str) else []
    if len(parts) == 4 and parts[1] == "events":
        if parts[0] != environment:
            raise InvalidName(
                f"event {name!r} belongs to the environment {parts[0]!r}, but this one is {environment!r}"
            )
        del parts[:2]
    elif len(parts) == 3 and parts[0] == "events":
        del parts[0]
    if len(parts) != 2:
        raise InvalidName(f"{name!r} is no event name; write CATEGORY.TYPE, such as platform.user-signup")
    category, kind = parts
    if category not in CATEGORIES:
        raise InvalidName(f"event {name!r}: {category!r} is no category; use {', '.join(CATEGORIES)}")
    if not _TYPE.fullmatch(kind):
        raise InvalidName(
            f"event {name!r}: the type {kind!r} must be small letters and digits with single - or _ between them, "
            "the first a letter"
        )
    event = EventName(category, kind)
    # Judged with all that may be added, so that the dead-letter queue can be made too.
    longest = EventQueue(environment, event, fifo, dead=True).sqs_name
    if len(longest) > SQS_NAME_CHARACTERS:
        over = len(longest) - SQS_NAME_CHARACTERS
        raise InvalidName(
            f"event {name!r}: the name of its SQS queue {longest!r} has {len(longest)} characters, SQS allows "
            f"{SQS_NAME_CHARACTERS}; shorten the type by {over}"
        )
    return event


def parse_sqs(name: str) -> EventQueue | None:
    """The other way: the queue that an SQS name means; None when it is none of ours."""
    match = _SQS.fullmatch(name)
    if match is None or match["env"] not in ENVIRONMENTS:
        return None
    try:
        event = parse_event(f"{match['category']}.{match['type']}", match["env"], fifo=bool(match["fifo"]))
    except InvalidName:
        return None
    return EventQueue(match["env"], event, bool(match["fifo"]), bool(match["dead"]))


def sqs_prefix(environment: str, category: str = "") -> str:
    """What the SQS names of all events of an environment, or of a category, begin with."""
    return f"{environment}-events-" + (f"{category}-" if category else "")
