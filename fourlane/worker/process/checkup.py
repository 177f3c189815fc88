"""Sees each second how each process is, by its own word and by its turns, and ends those that are unwell or hang."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.store import Store
from fourlane.worker.process.child import Child
from fourlane.worker.process.hung import PROBE_AFTER, Look, quiet_seconds
from fourlane.worker.process.links import Links
from fourlane.worker.process.protocol import Told
from fourlane.worker.process.worker_list import OVERRUN_SECONDS
from fourlane.worker.table import Vitals

__all__ = ["Checkup"]

log = logging.getLogger("fourlane.supervisor")

_EVERY_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 5.0


class Checkup:
    """Hears the vitals of processes that serve.

    Parameters:
      hung_seconds: who takes no turn for so long hangs (hung.py).
      overran: is told when a job passes its time limit, or no longer does.
    """

    def __init__(self, store: Store, links: Links, hung_seconds: float, overran: Callable[[], None]) -> None:
        self._store = store
        self._links = links
        self._hung_seconds = hung_seconds
        self._overran = overran
        self._looked_at = 0.0
        self._probed_at = 0.0
        self._reached = True  # Redis answered the last probe

    def look(self, children: Sequence[Child], order: int, now: float) -> None:
        """``order``: the last order to declare, which is told to those that have not carried it out."""
        seconds = now - self._looked_at
        if seconds < _EVERY_SECONDS:
            return
        self._looked_at = now
        for child in children:
            if child.serves:
                self._check(child, order, seconds, now)

    def _check(self, child: Child, order: int, seconds: float, now: float) -> None:
        vitals = child.table.vitals()
        child.declared = vitals.declared
        if child.declared < order:
            child.tell(Told(declare=order))
        overruns = 0 < vitals.limit_at < now - OVERRUN_SECONDS
        if overruns != child.overran:
            child.overran = overruns
            self._overran()  # `fourlane status` need not wait to know
        if child.condemned or child.stopping_since is not None:
            return
        if vitals.wrong:
            log.error("process %d pid=%d: %s; killing it", child.number, child.process.pid, vitals.wrong)
            child.condemn(vitals.wrong, guilty=None)
        else:
            self._watch_turns(child, vitals, seconds, now)

    def _watch_turns(self, child: Child, vitals: Vitals, seconds: float, now: float) -> None:
        patience = self._hung_seconds
        if child.quiet_seconds >= patience * PROBE_AFTER:
            self._probe(child, now)
        turned_at, busy = child.table.turned_at, bool(child.table.running())
        look = Look(
            seconds=seconds,
            turned=turned_at != child.turned_at,
            ran=vitals.pulse != child.pulse,
            excused=vitals.excused,
            busy=busy,
            stopped=vitals.pulse == child.pulse and child.is_stopped(),
            reached=self._reached,
        )
        child.turned_at, child.pulse = turned_at, vitals.pulse
        child.quiet_seconds = quiet_seconds(child.quiet_seconds, look)
        if child.quiet_seconds < PROBE_AFTER * patience:
            self._reached = True  # nobody needs to know
        elif child.quiet_seconds >= patience:
            log.error(
                "process %d pid=%d takes no turn, though Redis answers: seconds=%.0f held=%d running=%d; killing it",
                child.number, child.process.pid, now - turned_at, child.table.held, len(child.table.running()),
            )  # fmt: skip
            child.condemn("it took no turn, though Redis answered", guilty=[])

    def _probe(self, child: Child, now: float) -> None:
        """Whether Redis takes from us what it would take from this process: a write for each of its services."""
        if now - self._probed_at < _PROBE_SECONDS:
            return
        self._probed_at = now
        try:
            for service in child.table.names():
                key = self._store.service(service).workers
                self._links.of(key).command("ZADD", key, "XX", 0, "?")
            self._reached = True
        except RedisUnavailable as error:
            log.debug("%s", error)
            self._reached = False
            self._links.drop()
