"""Sends messages to SQS, and again what it did not accept."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fourlane.errors import EventsRefused, EventsUnavailable
from fourlane.events.aws import Aws, failure_of_entry
from fourlane.events.names import EventQueue
from fourlane.telling import tell

__all__ = ["Sender"]

_TRIES: Final = 5
_FIRST_PAUSE_SECONDS: Final = 0.1


class Sender:
    """Threads may share it."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._hurries = threading.Event()

    def hurry(self) -> None:
        """From now on nothing is tried twice."""
        self._hurries.set()

    def send(self, queue: EventQueue, entries: Sequence[dict[str, Any]]) -> dict[int, EventsUnavailable]:
        """Returns the errors of those that were not accepted, by position."""
        failed: dict[int, EventsUnavailable] = {}
        left = dict(enumerate(entries))
        for number in range(1, _TRIES + 1):
            if number > 1:
                if self._hurries.is_set():
                    break
                time.sleep(_FIRST_PAUSE_SECONDS * 2 ** (number - 2) * random.uniform(0.5, 1.0))
            refused = self._try(queue, left, number)
            failed = {i: error for i, error in failed.items() if i not in left} | refused
            left = {i: left[i] for i, error in refused.items() if error.passing}
            if not left:
                break
        return failed

    def _try(
        self, queue: EventQueue, entries: Mapping[int, dict[str, Any]], number: int
    ) -> dict[int, EventsUnavailable]:
        began = time.monotonic()
        try:
            reply = self._aws.on(
                queue, "send_message_batch", Entries=[{"Id": str(i), **entry} for i, entry in entries.items()]
            )
        except EventsUnavailable as error:
            if len(entries) > 1 and isinstance(error, EventsRefused) and error.contents:
                return self._one_by_one(queue, entries, number)  # the whole is refused for one of them
            return dict.fromkeys(entries, error)
        refused = {int(one["Id"]): failure_of_entry(queue, one) for one in reply.get("Failed", ())}
        tell.published(queue.sqs_name, len(entries) - len(refused), number, time.monotonic() - began)
        return refused

    def _one_by_one(
        self, queue: EventQueue, entries: Mapping[int, dict[str, Any]], number: int
    ) -> dict[int, EventsUnavailable]:
        refused: dict[int, EventsUnavailable] = {}
        for i, entry in entries.items():
            refused |= self._try(queue, {i: entry}, number)
        return refused
