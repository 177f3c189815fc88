"""Jobs that other workers parked because they do not know their tasks, and this one knows them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from fourlane.errors import RedisUnavailable
from fourlane.queues.store import Store
from fourlane.telling import tell
from fourlane.worker.loop.appetite import Appetite
from fourlane.worker.loop.recovery import Recovery
from fourlane.worker.loop.service import Service
from fourlane.worker.loop.services import Services
from fourlane.worker.run.unknown import Promotion

__all__ = ["Promotions"]

log = logging.getLogger("fourlane.worker")


class Promotions:
    """One for each service, until it has taken all."""

    def __init__(self, store: Store, services: Services, appetite: Appetite, recovery: Recovery) -> None:
        self._store = store
        self._services = services
        self._appetite = appetite
        self._recovery = recovery
        self._open: dict[Service, Promotion] = {}

    def begin(self, name: str, tasks: Sequence[str]) -> None:
        """Others parked jobs of these tasks."""
        service = self._services.named(name)
        if service is not None:
            self._open[service] = Promotion(self._store, name, service.tiers.served, tasks)

    def next_at(self, now: float) -> float:
        """When to take some, if there is room."""
        if not self._open or self._appetite.want(now) <= 0:
            return math.inf
        return min(promotion.at for promotion in self._open.values())

    def take(self, now: float) -> bool:
        """Take some, as far as there is room, to be leased at once. False when Redis did not answer."""
        for service, promotion in list(self._open.items()):
            if promotion.at > now or service.is_blocked(now) or (want := self._appetite.want(now)) <= 0:
                continue
            try:
                found = promotion.take(self._services.link(service), want, now)
            except RedisUnavailable as error:
                self._recovery.refused_or_failed(service, error)
                return False
            if found:
                service.tiers.all_may_have_jobs()
            if promotion.at == math.inf:
                self._end(service, promotion)
        return True

    def _end(self, service: Service, promotion: Promotion) -> None:
        del self._open[service]
        if promotion.taken:
            tell.promoted(service.name, promotion.taken)
