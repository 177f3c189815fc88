"""Hands jobs over to Redis, and remembers with Redis which of them it has."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues import relayed
from fourlane.queues.redis.clock import time_ms
from fourlane.queues.relayed import Relayed
from fourlane.queues.store import Store

__all__ = ["SLOW_SECONDS", "Handover"]

SLOW_SECONDS: Final = 10.0
"""A batch that took longer begins no further call: what is left of it comes with the next, which is smaller."""
_ACCEPT_MS: Final = 20_000  # a batch that took longer is given up; another relay may have its rows by now
_REMEMBER_MS: Final = 7 * 86_400_000  # as long as a database may be away after a relay died
_REMEMBER_CONFIRMED_MS: Final = 60_000  # well over _ACCEPT_MS, see Relay
_CALL_BYTES: Final = 4_000_000  # hosted servers refuse requests over 10 MB
_CONFIRMED_AT_ONCE: Final = 1_000


class Handover:
    """To the services of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clocks: dict[str, float] = {}  # by service: ms that its Redis is ahead of our monotonic clock
        self._confirmed: dict[str, list[str]] = defaultdict(list)

    def send(self, service: str, jobs: Sequence[Relayed], began: float) -> int:
        """Enqueue one service's jobs, in some calls; returns how many were, from the first on.

        Parameters:
          began: when their rows were locked (monotonic).

        Raises RedisUnavailable: some may be enqueued all the same, which Redis knows.
        """
        sent = 0
        for chunk in _chunks(jobs):
            if sent and time.monotonic() - began > SLOW_SECONDS:
                break
            if not self._call(service, chunk, int(self._clock(service) + began * 1000) + _ACCEPT_MS):
                if sent:
                    break
                raise RedisUnavailable(f"a batch of the outbox took over {_ACCEPT_MS / 1000:g} s; trying it again")
            sent += len(chunk)
        return sent

    def committed(self, sent: Mapping[str, Sequence[str]]) -> None:
        """The rows of these ids, by service, are marked for good."""
        for service, ids in sent.items():
            self._confirmed[service] += ids

    def settle(self) -> None:
        """Tell Redis which commits are known, so that it forgets their ids in a minute."""
        for service in list(self._confirmed):
            while self._confirmed[service]:
                self._call(service, (), 0)
            del self._confirmed[service]

    def _call(self, service: str, jobs: Sequence[Relayed], not_after_ms: int) -> bool:
        """False: it was too late."""
        confirmed = self._confirmed[service][:_CONFIRMED_AT_ONCE]
        try:
            at_redis, new = relayed.relay(
                self._store,
                service,
                jobs,
                not_after_ms=not_after_ms,
                remember_ms=_REMEMBER_MS,
                confirmed=confirmed,
                remember_confirmed_ms=_REMEMBER_CONFIRMED_MS,
            )
        except RedisUnavailable:
            self._clocks.pop(service, None)  # another server may answer next time
            raise
        del self._confirmed[service][: len(confirmed)]
        self._clocks[service] = at_redis - time.monotonic() * 1000
        return new is not None

    def _clock(self, service: str) -> float:
        """What to add to our monotonic clock (ms) to know the time at Redis, at most."""
        if service not in self._clocks:
            key = self._store.service(service).relayed
            self._clocks[service] = time_ms(self._store.connector, key) - time.monotonic() * 1000
        return self._clocks[service]


def _chunks(jobs: Sequence[Relayed]) -> Iterator[Sequence[Relayed]]:
    first = size = 0
    for number, one in enumerate(jobs):
        size += len(one.body)
        if size > _CALL_BYTES and number > first:
            yield jobs[first:number]
            first, size = number, len(one.body)
    yield jobs[first:]
