"""A worker's leases as Redis has them: found to be others than it knows, lost, or not counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.outcome import Back
from fourlane.queues import control
from fourlane.queues.store import Store
from fourlane.telling import tell
from fourlane.worker.loop.apart import Apart
from fourlane.worker.loop.recovery import Recovery
from fourlane.worker.loop.service import Service
from fourlane.worker.loop.services import Services
from fourlane.worker.loop.waits import Waits
from fourlane.worker.run.executor import Executor
from fourlane.worker.run.run import Run

__all__ = ["Leases"]

log = logging.getLogger("fourlane.worker")

_TAKES_SECONDS: Final = 0.05  # far longer than a thread needs between taking a job and having it in its place


class Leases:
    """Brings what runs here and what Redis says is leased together again."""

    def __init__(
        self, store: Store, services: Services, executor: Executor, *, apart: Apart, waits: Waits, recovery: Recovery
    ) -> None:
        self._store = store
        self._services = services
        self._executor = executor
        self._apart = apart
        self._waits = waits
        self._recovery = recovery

    def resync(self, service: Service) -> bool:
        """After a lost reply: give back what Redis says we hold and we never received. False when it fails too."""
        if self._waits.asks_ahead_for(service):
            self._waits.drop()  # jobs whose lease is not heard of yet would pass for strangers, and begin after that
        service.come_into_step()
        # Before Redis is asked: a thread that just takes a job has it in hand until Redis has answered.
        waiting = self._executor.take_back()
        try:
            held = self._store.held(service.name, service.lease_name)
        except RedisUnavailable as error:
            self._put_back(waiting)
            service.fall_out_of_step()
            self._recovery.refused_or_failed(service, error)
            return False
        # The others run elsewhere.
        self._put_back([run for run in waiting if run.service is not service or run.leased.entry in held])
        lost = [run for run in self._in_hand(service) if run.leased.entry not in held]
        if lost:
            self._tell_lost(service, lost)
        self._apart.forget(service, but=held)
        service.keep(held)
        for entry in self._strangers(service, held, waiting):
            service.settle(entry, Back())
        return True

    def _put_back(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._executor.backlog.put(run)

    def _strangers(self, service: Service, held: set[str], waiting: Sequence[Run]) -> set[str]:
        """Leases that nobody here knows."""
        strangers = held - {entry for entry, _ in service.uncertain} - {run.leased.entry for run in waiting}
        strangers -= self._known(service)
        if strangers:
            time.sleep(_TAKES_SECONDS)  # a thread that is just taking a job has it in no place for a moment
            strangers -= self._known(service)
        return strangers

    def _known(self, service: Service) -> set[str]:
        """What this process has of a service besides its backlog, read in the order in which runs move."""
        known = {run.leased.entry for run in self._in_hand(service)}
        known |= {run.leased.entry for run, _ in list(service.finished) if run.epoch == service.epoch}
        return known | self._apart.held(service)

    def _in_hand(self, service: Service) -> list[Run]:
        return [run for run in self._executor.in_hand() if run.service is service and run.epoch == service.epoch]

    def lose(self, service: Service) -> None:
        """Our leases ran out: what runs here runs elsewhere too, and its end does not count."""
        late = [run for run in self._executor.in_hand() if run.service is service]
        self._put_back([run for run in self._executor.take_back() if run.service is not service])
        self._apart.forget(service)
        if self._waits.asks_ahead_for(service):
            self._waits.drop()  # what would be leased by it would be under the lost name
        service.begin_anew()
        self._services.publish_lost(service)
        self._tell_lost(service, late)

    def _tell_lost(self, service: Service, runs: list[Run]) -> None:
        tell.leases_lost(service.name, service.lease_name, len(runs))
        self._executor.lease_lost(runs)

    def look_whether_lost(self, name: str, lease_name: str) -> None:
        """The supervisor heard so. Redis says whether it is so still: what is held by now may be newer."""
        service = self._services.named(name)
        if service is not None and service.lease_name == lease_name and service.held:
            service.agenda.look_now()

    def count_stale(self, service: Service, runs: Sequence[Run]) -> None:
        """They ended after their leases were lost."""
        tell.stale(service.name, runs)
        key = self._store.service(service.name).stats
        try:
            self._store.connector.command(key, "HINCRBY", key, "stale", len(runs))
        except RedisUnavailable as error:
            log.warning("%s", error)
        for run in runs:
            run.let_go()

    def count_against_limits(self, service: Service) -> None:
        """Once this worker knows of a limit, what it leased before must count too."""
        try:
            control.rewrite(self._store, service.name)
        except RedisUnavailable as error:
            log.warning("%s", error)
            service.limits_unknown()
