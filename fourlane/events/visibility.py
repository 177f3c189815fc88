"""Keeps messages hidden while their handlers run, and the handlers within their time."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from dramatiq.middleware import TimeLimitExceeded

from fourlane.errors import Cancelled, RedisUnavailable
from fourlane.events import messages
from fourlane.events.aws import LONGEST_VISIBILITY_SECONDS, Aws
from fourlane.events.delivery import Delivery
from fourlane.events.messages import Message
from fourlane.events.names import EventQueue
from fourlane.queues.claims import Claims
from fourlane.queues.store import Store

__all__ = ["Visibility", "change_all"]

log = logging.getLogger("fourlane.events")

_LAST_SECONDS: Final = LONGEST_VISIBILITY_SECONDS - 600
_LOOK_SECONDS: Final = 0.1


class Visibility:
    """A thread that looks after all that is in hand: ``present``."""

    def __init__(self, aws: Aws, store: Store, seconds: int, present: Callable[[], list[Delivery]]) -> None:
        self._aws = aws
        self._claims = Claims(store)
        self._seconds = seconds
        self._present = present

    def start(self) -> None:
        threading.Thread(target=self._run, name="direct-visibility", daemon=True).start()

    def _run(self) -> None:
        every = self._seconds / 3
        extended_at = time.monotonic()
        while True:
            time.sleep(min(_LOOK_SECONDS, every))
            now = time.monotonic()
            present = self._present()
            try:
                for delivery in present:
                    self._watch(delivery, now)
                if now - extended_at >= every:
                    extended_at = now
                    self._extend([delivery for delivery in present if delivery.token.reason != "time"])
            except Exception:
                log.exception("visibility could not be extended")

    def _watch(self, delivery: Delivery, now: float) -> None:
        """SQS hides nothing for longer than 12 hours: some minutes before, the handler is told to stop."""
        if 0 < delivery.handler.deadline <= now:
            delivery.handler.interrupt(TimeLimitExceeded)
        if delivery.token.reason != "time" and now - delivery.taken_at >= _LAST_SECONDS:
            log.error("event of %s: its handler runs for %d s, told to stop", delivery.queue.event, _LAST_SECONDS)
            delivery.token.set("time")
            delivery.handler.interrupt(Cancelled)

    def _extend(self, deliveries: Sequence[Delivery]) -> None:
        change_all(self._aws, deliveries, self._seconds)
        for delivery in deliveries:
            for service, stored in list(delivery.claims):
                try:
                    self._claims.claim(service, stored, delivery.owner, self._seconds * 1000)
                except RedisUnavailable:
                    return


def change_all(aws: Aws, deliveries: Sequence[Delivery], seconds: int) -> dict[EventQueue, list[Message]]:
    """Hide these messages for so long from now, in batches. Returns them by queue."""
    by_queue: dict[EventQueue, list[Message]] = defaultdict(list)
    for delivery in deliveries:
        by_queue[delivery.queue].append(delivery.message)
    for queue, several in by_queue.items():
        messages.change_visibility(aws, queue, several, seconds)
    return by_queue
