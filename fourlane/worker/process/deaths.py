"""What follows from a process's death: its jobs are back at once, and the others learn how careful to be."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis import is_refusal
from fourlane.queues.store import Store
from fourlane.worker.process.child import Child
from fourlane.worker.process.triers import MOST_ESCAPES, Place, escapes_of_late, is_wary, triers
from fourlane.worker.table import Blame, Leave

__all__ = ["Deaths"]

log = logging.getLogger("fourlane.supervisor")

_KEPT: Final = 10
_UNBEGUN_MS: Final = 1_000


class Deaths:
    """The deaths of late, and what they mean for the trials of suspects (worker/loop/apart.py).

    Parameters:
      count: counts poisoned jobs and crashes for the metrics.
    """

    def __init__(self, store: Store, count: Callable[[str, int], None]) -> None:
        self._store = store
        self._count = count
        self._died_at: dict[int, float] = {}  # by place
        self._with_jobs: deque[float] = deque(maxlen=_KEPT)
        self._escapes: deque[float] = deque(maxlen=MOST_ESCAPES)

    def grant(self, children: Sequence[Child], places: int, now: float) -> None:
        """Say which processes may try suspects."""
        seen = [Place(0.0, 0.0, self._died_at.get(number, 0.0)) for number in range(places)]
        for child in children:
            if child.serves and child.stopping_since is None:
                child.serves_since = child.serves_since or now
                start_seconds = child.serves_since - child.started_at
                seen[child.number] = Place(child.serves_since, start_seconds, seen[child.number].died_at)
        trying, wary = triers(seen, now), is_wary(self._with_jobs, now)
        for child in children:
            child.table.grant(Leave(child.number in trying, wary, escapes_of_late(self._escapes, now)))

    def note(self, child: Child, now: float) -> None:
        """It died."""
        self._died_at[child.number] = now
        if child.table.running():
            self._with_jobs.append(now)
        self._count("crashes", 1)
        level = logging.WARNING if child.killed else logging.ERROR
        log.log(level, "died process=%d pid=%d %s", child.number, child.process.pid, child.fate())

    def reclaim(self, child: Child) -> None:
        """Its jobs are back at once, not after its silence. Only those that had begun count a crash."""
        blame, now = child.table.blame(), time.monotonic()
        unbegun_ms = _UNBEGUN_MS if is_wary(self._with_jobs, now) else 0
        if blame.escaped and child.guilty is None:
            self._escapes.append(now)
        for number, (service, name) in enumerate(child.table.names().items()):
            try:
                self._reclaim_of(child, number, service, name, blame, unbegun_ms)
            except RedisUnavailable as error:
                log.warning("%s; its jobs come back when its silence is noticed", error)
                if is_refusal(error) or self._store.connector.clustered:
                    continue  # the next service's may be taken back
                return

    def _reclaim_of(self, child: Child, number: int, service: str, name: str, blame: Blame, unbegun_ms: int) -> None:
        begun = child.guilty
        if begun is None:
            begun = [job.entry for job in blame.crashed if job.service == number]
        back, poisoned = self._store.reclaim(
            service, name, f"worker {child.name} died: {child.fate()}",
            begun=begun, ran=blame.ran, alone=blame.alone,
            passed=[job.entry for job in blame.passed if job.service == number],
            guilty=child.guilty is not None, unbegun_ms=unbegun_ms,
        )  # fmt: skip
        self._count("poisoned", len(poisoned))
        if back or poisoned:
            log.warning("reclaimed service=%s jobs=%d poison=%s", service, back, ",".join(poisoned) or "none")
