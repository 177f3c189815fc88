"""How often an event's handlers failed, and how many receivers died over it: in Redis, for each message of SQS.

SQS itself counts receives, and a receive says little: a deploy, a pause and a killed receiver are one too. What is
counted here decides; ``maxReceiveCount`` of the queue is only the last net.
"""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from fourlane.errors import RedisUnavailable
from fourlane.events.provision import RETENTION_SECONDS
from fourlane.queues.store import Store

__all__ = ["MAX_DEATHS", "NONE", "Tries", "TriesOf"]

log = logging.getLogger("fourlane.events")

MAX_DEATHS: Final = 3
_DEATHS: Final = "deaths"
_FAILED: Final = "failed "  # a handler's name follows; none for what failed before any handler ran
_LONGEST_REASON: Final = 500


class TriesOf(NamedTuple):
    """What is known of one message."""

    deaths: int
    failures: dict[str, int]
    reasons: dict[str, str]


NONE: Final = TriesOf(0, {}, {})


class Tries:
    """Where the tries of messages are. While Redis is away nothing is counted."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, message_id: str) -> TriesOf:
        """Raises RedisUnavailable."""
        key = self._store.keys.tries(message_id)
        reply = self._store.connector.command(key, "HGETALL", key)
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        read = {name.decode(): value for name, value in pairs}
        failed = {n.removeprefix(_FAILED): v for n, v in read.items() if n.startswith(_FAILED)}
        return TriesOf(
            int(read.get(_DEATHS, 0)),
            {name: int(value) for name, value in failed.items() if not name.endswith("!")},
            {name[:-1]: value.decode(errors="replace") for name, value in failed.items() if name.endswith("!")},
        )

    def failed(self, message_id: str, handler: str, reason: str, most: int, *, final: bool = False) -> None:
        """Count a failure of a handler; a final one counts as the last."""
        self._count(message_id, _FAILED + handler, most if final else 1, most, reason[:_LONGEST_REASON])

    def died(self, message_id: str, *, alone: bool) -> int:
        """Count the death of a receiver that was handling it. The last one that counts must be its own alone."""
        return self._count(message_id, _DEATHS, 1, MAX_DEATHS if alone else MAX_DEATHS - 1, "")

    def forget(self, message_id: str) -> None:
        key = self._store.keys.tries(message_id)
        try:
            self._store.connector.command(key, "DEL", key)
        except RedisUnavailable:
            pass  # it ends by itself

    def _count(self, message_id: str, what: str, by: int, most: int, reason: str) -> int:
        key = self._store.keys.tries(message_id)
        try:
            return int(self._store.connector.run("tries", [key], (RETENTION_SECONDS * 1000, what, by, most, reason)))
        except RedisUnavailable as error:
            log.warning("%s; a try of message %s is not counted", error, message_id)
            return 0
