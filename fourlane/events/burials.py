"""Sends messages that can never be handled to the dead-letter queue, each once, however often SQS delivers it."""

from __future__ import annotations

import logging
import threading
from typing import Final

from fourlane.errors import EventsUnavailable, NoSuchEventQueue
from fourlane.events import messages
from fourlane.events.aws import Aws
from fourlane.events.messages import REASON, Message
from fourlane.events.names import EventQueue
from fourlane.telling import tell

__all__ = ["Burials"]

log = logging.getLogger("fourlane.events")

_REMEMBERED: Final = 10_000


class Burials:
    """Of one process; its threads share it. SQS may deliver a message again before it has heard that it is deleted."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._lock = threading.Lock()
        self._begun: set[str] = set()
        self._done: dict[str, None] = {}  # the oldest first

    def bury(self, queue: EventQueue, message: Message, reason: str) -> bool:
        """Send it there with its reason, then delete it. False: it stays where it is."""
        with self._lock:
            if message.id in self._begun:
                return False
            done = message.id in self._done
            self._begun.add(message.id)
        try:
            if not done and not self._send(queue, message, reason):
                return False
            self._remember(message.id)
            messages.delete(self._aws, queue, [message])
        finally:
            with self._lock:
                self._begun.discard(message.id)
        if not done:
            log.error("dead event=%s message=%s reason=%s", queue.event, message.id, reason)
            tell.buried(queue.sqs_name, reason)
        return True

    def _send(self, queue: EventQueue, message: Message, reason: str) -> bool:
        try:
            messages.send_copy(self._aws, queue.dead_letters, message, {REASON: reason})
        except EventsUnavailable as error:
            # It comes again, and after some receives SQS itself moves it, if the queue has a redrive policy.
            told = log.error if isinstance(error, NoSuchEventQueue) else log.warning
            told("bury %s message=%s (%s): %s", queue.sqs_name, message.id, reason, error)
            return False
        return True

    def _remember(self, message_id: str) -> None:
        with self._lock:
            self._done[message_id] = None
            while len(self._done) > _REMEMBERED:
                del self._done[next(iter(self._done))]
