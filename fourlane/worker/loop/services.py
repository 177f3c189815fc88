"""All services that a worker serves, and its connections to Redis."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence

from fourlane.names import Queue, Tier
from fourlane.queues.contact import Contact
from fourlane.queues.redis import Link
from fourlane.queues.store import Store
from fourlane.worker.loop.service import Service
from fourlane.worker.table import Table

__all__ = ["Services"]


class Services(Sequence[Service]):
    """One connection for all, but in a cluster one for each."""

    def __init__(self, store: Store, queues: Iterable[Queue], *, worker: str, table: Table | None) -> None:
        self._store = store
        self._worker = worker
        self._table = table
        self.clustered = store.connector.clustered
        self._contact = Contact(time.monotonic())
        self._links: dict[Service | None, Link] = {}
        self._all: list[Service] = []
        tiers: dict[str, str] = {}
        for queue in sorted(set(queues)):
            tiers[queue.service] = tiers.get(queue.service, "") + str(int(queue.tier))
        for name, served in tiers.items():
            self._add(name, served)

    def __iter__(self) -> Iterator[Service]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: int) -> Service:  # type: ignore[override]
        return self._all[index]

    def named(self, name: str) -> Service | None:
        return next((service for service in self._all if service.name == name), None)

    def add(self, name: str) -> Service:
        """One more, with all its tiers."""
        service = self._add(name, "".join(str(int(tier)) for tier in Tier))
        self.publish_names()
        return service

    def _add(self, name: str, tiers: str) -> Service:
        contact = Contact(time.monotonic()) if self.clustered else self._contact
        service = Service(name, len(self._all), tiers, self._worker, contact)
        self._all.append(service)
        return service

    # Connections

    def link(self, service: Service) -> Link:
        """Opened when it is needed. Raises RedisUnavailable."""
        key = service if self.clustered else None
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = self._store.connector.open(self._store.service(service.name).jobs)
        return link

    def drop_link(self, service: Service) -> None:
        """In a cluster another node may be the one to ask."""
        link = self._links.pop(service if self.clustered else None, None)
        if link is not None:
            link.close()

    # Of all together

    def ages_at(self) -> list[tuple[Service, float]]:
        """When to ask each how long its tiers have waited that something better is before, its own or another's."""
        known = [service for service in self._all if service.tiers.maybe]
        best = min((tiers[0] for service in known if (tiers := service.waiting)), default="9")
        return [(service, service.tiers.asks_ages_at(best)) for service in known]

    def have_ready_ends(self, now: float) -> bool:
        """Some run has ended, and may be settled now."""
        return any(service.finished and not service.is_blocked(now) for service in self._all)

    def next_at(self, now: float) -> float:
        """When one of them wants a turn, or is left alone no longer; and what else is to be done then."""
        moments = [s.blocked_until if s.is_blocked(now) else s.agenda.next_at() for s in self._all]
        moments += [service.stirs_at() for service in self._all]
        return min(moments, default=math.inf)

    # The table, where the supervisor finds for which leases to beat

    def publish_names(self) -> None:
        if self._table is not None:
            self._table.publish_names({service.name: service.lease_name for service in self._all})

    def publish_lost(self, service: Service) -> None:
        """It begins anew: under the new name nothing is held yet."""
        if self._table is not None:
            self._table.publish_held(service.number, 0)
        self.publish_names()

    def publish_leased(self, service: Service, number: int, *, now: float, finished: int) -> None:
        """Before any of these jobs begins."""
        if self._table is not None:
            self._table.publish_held(service.number, service.held + number)
            self._table.publish(now, sum(other.held for other in self._all) + number, finished)
