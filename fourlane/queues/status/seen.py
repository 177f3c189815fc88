"""One look at all that can be seen in Redis, with what is known beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from fourlane.queues import browse, kept, schedules
from fourlane.queues.browse import QueueInfo, ServiceInfo, WorkerInfo
from fourlane.queues.guards import ProviderState, ProviderStates
from fourlane.queues.store import Store

__all__ = ["Beyond", "Lag", "Late", "Seen", "Spending", "look"]

_RISING_MS: Final = 1_800_000


class Late(msgspec.Struct, frozen=True):
    """A schedule that is not paused.

    Parameters:
      late_ms: for how long its next time is overdue; 0: it is not.
      allowed_ms: what is no trouble yet.
      last_ms: how long after its time its last job was made.
    """

    name: str
    service: str
    late_ms: int
    allowed_ms: int
    last_ms: int = 0


class Lag(msgspec.Struct, frozen=True):
    """What waits outside Redis.

    Parameters:
      oldest_ms: for how long the oldest has; None: nothing waits, or it is not told.
      newly_failed: how many were found to be none within the last 30 minutes.
    """

    kind: Literal["outbox", "stream"]
    name: str
    waiting: int
    oldest_ms: int | None = None
    newly_failed: int = 0


class Spending(msgspec.Struct, frozen=True):
    """A budget, and what is spent and reserved of it today or this month.

    Parameters:
      refusing: calls were refused a short while ago, though it may not be used up: the next would have passed it.
      warn_at: the share from which operators want to know.
    """

    budget: str
    used_usd: float
    budget_usd: float
    refusing: bool = False
    warn_at: float = 0.8

    @property
    def share(self) -> float:
        return self.used_usd / self.budget_usd if self.budget_usd else 1.0


class Beyond(msgspec.Struct, frozen=True):
    """What is known of what lies beyond the queues, where settings say that there is any."""

    lags: list[Lag] = []
    spending: list[Spending] = []
    unreachable: dict[str, str] = {}
    """What could not be asked, and why."""


class Seen(msgspec.Struct, frozen=True):
    """What one look saw."""

    services: list[ServiceInfo]
    workers: list[WorkerInfo]
    schedules: list[Late]
    providers: list[ProviderState]
    memory: tuple[int, int] | None
    died: dict[str, int]
    """Dead letters of the last 30 minutes, by queue."""
    beyond: Beyond
    data_lost: bool = False
    """Redis lacks what running programs declared to it."""


def look(store: Store, beyond: Beyond = Beyond()) -> Seen:
    """Look once. Calls no provider. Raises RedisUnavailable."""
    services = browse.services(store)
    return Seen(
        services=services,
        workers=browse.workers(store),
        schedules=[late for service in services for late in _schedules(store, service)],
        providers=ProviderStates(store).look(),
        memory=browse.memory(store),
        died={queue.name: _died(store, queue, s.at_ms) for s in services for queue in s.queues if queue.dead},
        beyond=beyond,
        data_lost=kept.is_lost(store),
    )


def _schedules(store: Store, service: ServiceInfo) -> Iterator[Late]:
    names = schedules.names(store, service.name)
    last = schedules.lateness(store, service.name, names)
    for name, (schedule, state, _) in schedules.read(store, service.name, names).items():
        if not state.paused:
            due_ms = state.next_ms + schedule.spread_ms + schedule.jitter_ms
            late_ms = max(0, service.at_ms - due_ms) if state.next_ms else 0
            _, was_due_ms, at_ms = last.get(name, (0, 0, 0))
            yield Late(name, service.name, late_ms, schedule.late_after_ms, max(0, at_ms - was_due_ms))


def _died(store: Store, queue: QueueInfo, now_ms: int) -> int:
    key = store.service(queue.service).dead[queue.tier]
    return int(store.connector.command(key, "ZCOUNT", key, now_ms - _RISING_MS, "+inf"))
