"""Walks over dead letters.

All go by the time of death and never by position, so that jobs may die, be replayed or expire while a walk is under
way: nothing is met twice, nothing is passed over.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final

from fourlane.names import Tier
from fourlane.queues import browse
from fourlane.queues.dead_letters.letters import Filter, Letter, Position, read_letters
from fourlane.queues.redis.replies import scored
from fourlane.queues.store import Store

__all__ = ["PAGE", "queues_of", "walk"]

PAGE: Final = 200


def walk(store: Store, filter: Filter, after: Position | None = None, *, latest_first: bool = True) -> Iterator[Letter]:
    """Dead letters of all queues in the order of their deaths, without those that die from now on."""
    low, high = filter.times(browse.now_ms(store))
    walks = [
        _QueueWalk(store, service, tier, low, high, after, latest_first) for service, tier in queues_of(store, filter)
    ]
    for letter in heapq.merge(*walks, key=lambda letter: letter.at, reverse=latest_first):
        if filter.fits(letter):
            yield letter


def queues_of(store: Store, filter: Filter) -> list[tuple[str, Tier]]:
    """Services and tiers whose dead letters may be meant. Raises InvalidName."""
    if filter.queue is not None:
        queue = browse.queue_of(store, filter.queue)
        return [(queue.service, queue.tier)]
    return [(service, tier) for service in store.services() for tier in Tier]


class _QueueWalk:
    """A walk over one queue's, between two times of death and behind a position."""

    def __init__(
        self,
        store: Store,
        service: str,
        tier: Tier,
        low: int,
        high: int,
        after: Position | None,
        latest_first: bool,
    ) -> None:
        self._store = store
        self._service = service
        self._key = store.service(service).dead[tier]
        self._low, self._high = low, high
        self._after = after
        self._latest_first = latest_first

    def __iter__(self) -> Iterator[Letter]:
        while positions := self._next():
            self._after = positions[-1]
            yield from read_letters(self._store, self._service, positions)

    def _next(self) -> list[Position]:
        """The next positions. Those of the same millisecond are read again, and left out."""
        offset = 0
        while True:
            read = self._page(offset)
            positions = [position for position in read if self._is_ahead(position)]
            if positions or len(read) < PAGE:
                return positions
            offset += PAGE

    def _page(self, offset: int) -> list[Position]:
        low, high, after = self._low, self._high, self._after
        if self._latest_first:
            bounds = ("ZREVRANGEBYSCORE", self._key, high if after is None else min(high, after.died_ms), low)
        else:
            bounds = ("ZRANGEBYSCORE", self._key, low if after is None else max(low, after.died_ms), high)
        reply = self._store.connector.command(self._key, *bounds, "WITHSCORES", "LIMIT", offset, PAGE)
        return [Position(died_ms, job_id, self._service) for job_id, died_ms in scored(reply)]

    def _is_ahead(self, position: Position) -> bool:
        if self._after is None:
            return True
        return position < self._after if self._latest_first else position > self._after
