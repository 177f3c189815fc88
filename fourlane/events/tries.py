"""How often an event's handlers failed, and how many receivers died over it: in Redis, for each message of SQS.

SQS itself counts receives, and a receive says little: a deploy, a pause and a killed receiver are one too. What is
counted here decides; ``maxReceiveCount`` of the queue is only the last net.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from fourlane.errors import RedisUnavailable
from fourlane.events.provision import RETENTION_SECONDS
from fourlane.queues.redis.replies import fields
from fourlane.queues.store import Store

__all__ = ["NONE", "POISON", "Tries", "TriesOf"]

log = logging.getLogger("fourlane.events")

POISON: Final = "poison: its receivers died while they handled nothing else"
_CRASH_POINTS: Final = 2
_KILL_POINTS: Final = 1  # SIGKILL may be the kernel's, out of memory, or just an operator's
_MOST_POINTS: Final = 6
_SUSPECT_DEATHS: Final = 2
_ALONE: Final = "alone"
_COMPANY: Final = "company"
_FAILED: Final = "failed "  # a handler's name follows; none for what failed before any handler ran
_LONGEST_REASON: Final = 500


class TriesOf(NamedTuple):
    """What is known of one message."""

    points: int
    """For deaths of receivers that handled nothing else."""
    company: int
    """Deaths of receivers that handled others too."""
    failures: dict[str, int]
    reasons: dict[str, str]

    @property
    def is_poison(self) -> bool:
        return self.points >= _MOST_POINTS

    @property
    def is_suspect(self) -> bool:
        """It shall be handled alone, so that the next death tells."""
        return self.points > 0 or self.company >= _SUSPECT_DEATHS


NONE: Final = TriesOf(0, 0, {}, {})


class Tries:
    """Where the tries of messages are. While Redis is away nothing is counted."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, message_id: str) -> TriesOf:
        """Raises RedisUnavailable."""
        key = self._store.keys.tries(message_id)
        read = fields(self._store.connector.command(key, "HGETALL", key))
        failed = {n.removeprefix(_FAILED): v for n, v in read.items() if n.startswith(_FAILED)}
        return TriesOf(
            int(read.get(_ALONE, 0)),
            int(read.get(_COMPANY, 0)),
            {name: int(value) for name, value in failed.items() if not name.endswith("!")},
            {name[:-1]: value.decode(errors="replace") for name, value in failed.items() if name.endswith("!")},
        )

    def failed(self, message_id: str, handler: str, reason: str, most: int, *, final: bool = False) -> None:
        """Count a failure of a handler; a final one counts as the last."""
        self._count(message_id, _FAILED + handler, most if final else 1, most, reason[:_LONGEST_REASON])

    def died(self, message_id: str, *, alone: bool, killed: bool) -> None:
        """Count the death of a receiver that was handling it: by itself, or by SIGKILL."""
        if alone:
            self._count(message_id, _ALONE, _KILL_POINTS if killed else _CRASH_POINTS, _MOST_POINTS, "")
        else:
            self._count(message_id, _COMPANY, 1, _SUSPECT_DEATHS, "")

    def forget(self, message_id: str) -> None:
        key = self._store.keys.tries(message_id)
        try:
            self._store.connector.command(key, "DEL", key)
        except RedisUnavailable:
            pass  # it ends by itself

    def _count(self, message_id: str, what: str, by: int, most: int, reason: str) -> None:
        key = self._store.keys.tries(message_id)
        try:
            args = (RETENTION_SECONDS * 1000, what, by, most, reason)
            self._store.connector.run_once("tries", [key], args, self._store.keys.tries_sent())
        except RedisUnavailable as error:
            log.warning("%s; a try of message %s is not counted", error, message_id)
