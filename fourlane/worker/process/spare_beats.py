"""Beats for its own process while the supervisor does not: that may be stopped, or held up, and the jobs run on."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.beat import SILENCE_MS
from fourlane.queues.store import Store
from fourlane.worker.process.links import Links
from fourlane.worker.process.protocol import BeatHearer
from fourlane.worker.table import Table

__all__ = ["SpareBeats"]

log = logging.getLogger("fourlane.worker")

_LOOK_SECONDS: Final = 0.5
_PATIENCE_SECONDS: Final = 2.5  # longer than the supervisor needs when all is well; two tries are left in a silence
_AGAIN_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 1.0


class SpareBeats:
    """A thread of a worker process. It asks Redis nothing while the supervisor beats, or nothing is held."""

    def __init__(self, hearer: BeatHearer, store: Store, table: Table) -> None:
        self._hearer = hearer
        self._store = store
        self._table = table
        self._links = Links(store.connector.answering_within(_ANSWER_SECONDS))
        self._cancels_since: dict[str, int] = {}
        self._acts = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="fourlane-spare-beats", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_AGAIN_SECONDS if self._acts else _LOOK_SECONDS)
            try:
                self.look(time.monotonic())
            except Exception:
                log.exception("beating in the supervisor's place met an error of its own")

    def look(self, now: float) -> None:
        """Beat when the supervisor has not for too long."""
        silent = now - self._table.beaten_at >= _PATIENCE_SECONDS
        holding = self._table.holding() if silent else set()
        acts = bool(holding)
        if acts and not self._acts:
            log.warning("the supervisor does not beat; this process does so itself")
        elif self._acts and not acts:
            self._links.drop()
            self._cancels_since.clear()
        self._acts = acts
        try:
            for number, (service, name) in enumerate(self._table.names().items() if acts else ()):
                if number in holding:
                    self._beat(service, name)
        except RedisUnavailable as error:
            log.debug("%s", error)
            self._links.drop()

    def _beat(self, service: str, name: str) -> None:
        link = self._links.of(self._store.service(service).jobs)
        told = self._store.beat(link, service, [name], SILENCE_MS, self._cancels_since.get(service, 0))
        self._cancels_since[service] = told.since_ms
        for lost in told.lost:
            self._hearer.told_lost(service, lost)
        if told.cancelled:
            self._hearer.told_cancelled(set(told.cancelled))
