"""Says to Redis that the processes live which hold jobs, and hands them what it answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.beat import BEAT_SECONDS, SILENCE_MS
from fourlane.queues.redis import is_refusal
from fourlane.queues.store import Store
from fourlane.worker.process.child import Child
from fourlane.worker.process.links import Links
from fourlane.worker.process.protocol import Told

__all__ = ["Beats"]

log = logging.getLogger("fourlane.supervisor")

_AGAIN_SECONDS: Final = 0.25


class Beats:
    """A supervisor's beats: user code cannot stop them."""

    def __init__(self, store: Store, links: Links) -> None:
        self._store = store
        self._links = links
        self._next_at = 0.0
        self._cancels_since: dict[str, int] = {}

    def are_due(self, now: float) -> bool:
        return now >= self._next_at

    def beat(self, children: Sequence[Child]) -> None:
        """Say of each process that holds jobs that it lives, and only of the services in which it does."""
        now = time.monotonic()
        self._next_at = now + BEAT_SECONDS
        for service, holders in _holders(children).items():
            try:
                self._beat_for(service, holders)
            except RedisUnavailable as error:
                log.warning("%s", error)
                if is_refusal(error):
                    continue  # this service alone is in trouble
                self._links.drop()
                self._next_at = now + _AGAIN_SECONDS  # the silence runs
                return
        for child in children:
            child.table.beat(now)

    def _beat_for(self, service: str, holders: dict[str, Child]) -> None:
        link = self._links.of(self._store.service(service).jobs)
        told = self._store.beat(link, service, list(holders), SILENCE_MS, self._cancels_since.get(service, 0))
        for name in told.lost:
            holders[name].tell(Told(lost=[(service, name)]))
        all_told = True
        if told.cancelled:
            for child in set(holders.values()):
                all_told = child.tell(Told(cancelled=told.cancelled)) and all_told
        if all_told:
            self._cancels_since[service] = told.since_ms


def _holders(children: Sequence[Child]) -> dict[str, dict[str, Child]]:
    """By service: the processes that hold jobs of it, by the names of their leases there."""
    found: dict[str, dict[str, Child]] = {}
    for child in children:
        holding = child.table.holding()
        if holding:
            for number, (service, name) in enumerate(child.table.names().items()):
                if number in holding:
                    found.setdefault(service, {})[name] = child
    return found
