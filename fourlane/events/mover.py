"""Moves events into the Redis queues: one job for each handler, and only then are they deleted from SQS."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence

from fourlane.errors import EncryptionError, InvalidEvent, RedisUnavailable
from fourlane.events import catalogue, messages
from fourlane.events.aws import BATCH, Aws
from fourlane.events.burials import Burials
from fourlane.events.catalogue import Handler
from fourlane.events.envelope import Envelope, wire
from fourlane.events.hand import Gate, Hand
from fourlane.events.handlers import accepting
from fourlane.events.messages import Message
from fourlane.events.names import EventName, EventQueue
from fourlane.events.reading import read
from fourlane.events.receiver import VISIBILITY_SECONDS
from fourlane.events.tries import NONE, POISON, Tries, TriesOf
from fourlane.queues import taken
from fourlane.queues.redis import is_answer
from fourlane.queues.store import Store
from fourlane.queues.taken import Accepting
from fourlane.telling import tell
from fourlane.watchdog import Watchdog

__all__ = ["Mover", "accept", "checked"]

log = logging.getLogger("fourlane.events")

_LONGEST_PAUSE_SECONDS = 10.0


class Mover:
    """A Worker for receivers. May be shared by their threads."""

    def __init__(
        self,
        aws: Aws,
        store: Store,
        handlers: Mapping[EventName, Sequence[Handler]],
        stopping: threading.Event,
        *,
        visibility_seconds: int = VISIBILITY_SECONDS,
        watchdog: Watchdog | None = None,
        hand: Hand | None = None,
    ) -> None:
        self.aws = aws
        self.store = store
        self.handlers = handlers
        self.stopping = stopping
        self.visibility_seconds = visibility_seconds
        self.watchdog = watchdog or Watchdog()
        self.hand = hand or Hand()
        self.tries = Tries(store)
        self._gate = Gate()
        self._burials = Burials(aws)

    def room(self, queue: EventQueue) -> int:
        return BATCH

    def take(self, queue: EventQueue, received: list[Message]) -> None:
        self.hand.take(queue, received)
        try:
            tried = self._tries_of([message for message in received if message.receives > 1])
            suspects = [message for message in received if message.id in tried and tried[message.id].is_suspect]
            self._take(queue, [message for message in received if message not in suspects], suspect=False)
            for message in suspects:
                if tried[message.id].is_poison:
                    self._burials.bury(queue, message, POISON)
                else:
                    self._take(queue, [message], suspect=True)
            for message_id in () if self.stopping.is_set() else tried:
                self.tries.forget(message_id)
        finally:
            self.hand.drop(received)

    def _tries_of(self, received: Sequence[Message]) -> dict[str, TriesOf]:
        """Of those of which something is known."""
        try:
            read = {message.id: self.tries.read(message.id) for message in received}
        except RedisUnavailable:
            return {}  # what follows says so, and waits
        return {message_id: tries for message_id, tries in read.items() if tries != NONE}

    def _take(self, queue: EventQueue, received: Sequence[Message], *, suspect: bool) -> None:
        with self._gate.through(suspect=suspect):
            self.hand.begin(received)
            self._move(queue, received)

    def _move(self, queue: EventQueue, received: Sequence[Message]) -> None:
        good: list[tuple[Message, Envelope]] = []
        for message in received:
            try:
                good.append((message, checked(queue, message)))
            except InvalidEvent as error:
                self._burials.bury(queue, message, str(error))
        if good and self._accepted(queue, good):
            messages.delete(self.aws, queue, [message for message, _ in good])

    def _accepted(self, queue: EventQueue, good: list[tuple[Message, Envelope]]) -> bool:
        """While Redis is away the messages stay in hand: to receive them again and again would count against them."""
        pause = 0.25
        while True:
            try:
                accept(self.store, queue, self.handlers[queue.event], good)
                return True
            except (RedisUnavailable, EncryptionError) as error:
                pause = min(_LONGEST_PAUSE_SECONDS, self.visibility_seconds / 3, pause * 2)
                log.warning("%s; %d event(s) of %s wait in hand", error, len(good), queue.event)
                if isinstance(error, EncryptionError) or is_answer(error):
                    self.watchdog.kick(pause)
            in_hand = [message for message, _ in good]
            messages.change_visibility(self.aws, queue, in_hand, self.visibility_seconds)
            if self.stopping.wait(pause):
                messages.change_visibility(self.aws, queue, in_hand, 0)
                return False


def checked(queue: EventQueue, message: Message) -> Envelope:
    """The event in a message, if it is what its queue carries. Raises InvalidEvent."""
    received = read(message.body, message.sent_ms)
    name = received.name(queue.environment)
    if name != queue.event:
        raise InvalidEvent(f"the queue carries {queue.event}, but the envelope's type says {name}")
    if not received.dataref:  # else the data is checked where it is needed: it may be large
        catalogue.of(name).from_json(received.json_data)
    return received


def accept(
    store: Store, queue: EventQueue, handlers: Sequence[Handler], good: Sequence[tuple[Message, Envelope]]
) -> None:
    """Make the jobs of these events for these handlers.

    Raises RedisUnavailable, or EncryptionError for a handler's keys; then some may have been made.
    """
    jobs: dict[tuple[str, int], list[Accepting]] = defaultdict(list)
    written = [wire(received).encode() for _, received in good]  # in our own form, whoever published it
    for handler in handlers:
        to = handler.task.queue
        jobs[to.service, int(to.tier)] += [
            accepting(handler, text, received, message.again)
            for text, (message, received) in zip(written, good, strict=True)
        ]
    for (service, tier), several in jobs.items():
        new = taken.accept(store, service, tier, several)
        tell.accepted(queue.sqs_name, new, len(several) - new)
