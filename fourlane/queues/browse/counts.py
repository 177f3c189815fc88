"""Services and their queues: how many jobs are in which state, how old, how fast they go."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import msgspec

from fourlane.errors import UnknownQueue
from fourlane.names import Queue, Tier, parse_queue
from fourlane.queues.limit import Limit, read_limits
from fourlane.queues.store import Store

__all__ = ["QueueInfo", "Rate", "ServiceInfo", "known_queue", "queue_of", "queues", "rates", "services", "unfinished"]


class QueueInfo(msgspec.Struct, frozen=True):
    """One tier of one service."""

    name: str
    service: str
    tier: Tier
    ready: int
    """Jobs that may run now, without those that were cancelled while they waited."""
    dead: int
    done: int | None
    """Jobs that ever succeeded; None when none was counted."""
    oldest_age_ms: int | None
    """How long the next job has waited; None when there is none, or its id does not tell."""
    paused: bool
    limit: Limit | None


class ServiceInfo(msgspec.Struct, frozen=True):
    """A service: its four queues, and what its tiers share."""

    name: str
    delayed: int
    """Jobs of all four tiers that may not run yet."""
    next_due_in_ms: int | None
    """Milliseconds until the next of them may run; 0 when it is late."""
    running: int
    parked: int
    """Jobs that wait for a place in a line."""
    workers: int
    queues: list[QueueInfo]
    at_ms: int
    """Redis's time when this was so."""


class Rate(msgspec.Struct, frozen=True):
    """How fast a queue goes, between two looks at it."""

    done_per_second: float | None
    """Jobs that succeeded; None when they are not counted."""
    growth_per_second: float
    """How fast the jobs that are ready become more; below 0, fewer."""


def queues(store: Store) -> list[QueueInfo]:
    """All queues of all services, the four tiers of each in their order."""
    return [queue for service in services(store) for queue in service.queues]


def services(store: Store) -> list[ServiceInfo]:
    """All services that ever had a job, a worker or a limit."""
    return [_service(store, name) for name in store.services()]


def unfinished(store: Store, service: str) -> int:
    """How many of a service's jobs are ready, delayed or running."""
    return int(store.connector.run("unfinished", store.service(service).all, ()))


def rates(before: Sequence[ServiceInfo], after: Sequence[ServiceInfo]) -> dict[str, Rate]:
    """The rate of every queue that both looks have, by its full name."""
    earlier = {queue.name: (queue, service.at_ms) for service in before for queue in service.queues}
    found: dict[str, Rate] = {}
    for service in after:
        for queue in service.queues:
            if queue.name not in earlier:
                continue
            then, at_ms = earlier[queue.name]
            seconds = (service.at_ms - at_ms) / 1000
            if seconds > 0:
                done = None if queue.done is None else max(0, queue.done - (then.done or 0)) / seconds
                found[queue.name] = Rate(done, (queue.ready - then.ready) / seconds)
    return found


def _service(store: Store, name: str) -> ServiceInfo:
    keys = store.service(name)
    reply = store.connector.run("browse", keys.all, ())
    *tiers, delayed, due, parked, workers, control, now = reply
    limits, now = read_limits(control), int(now)
    found: list[QueueInfo] = []
    for tier in Tier:
        ready, void, since, dead, done = tiers[tier * 5 : tier * 5 + 5]
        limit = limits.get(str(int(tier)))
        found.append(
            QueueInfo(
                name=Queue(name, tier).name(store.environment),
                service=name,
                tier=tier,
                ready=max(0, ready - max(0, void)),
                dead=dead,
                done=done if done >= 0 else None,
                oldest_age_ms=max(0, now - int(since)) if int(since) else None,
                paused=limit.paused if limit else False,
                limit=limit,
            )
        )
    running = 0
    for lease_name in store.lease_names(name):
        running += store.connector.command(keys.jobs, "SCARD", keys.leased(lease_name))
    next_due = max(0, int(float(due)) - now) if due else None
    return ServiceInfo(name, delayed, next_due, running, parked, workers, found, now)


def queue_of(store: Store, queue: Queue | str) -> Queue:
    """A queue by any of its names. Raises InvalidName."""
    return queue if isinstance(queue, Queue) else parse_queue(queue, store.environment)


def known_queue(store: Store, queue: Queue | str) -> Queue:
    """A queue by any of its names, of a service that exists: a misspelt one is told, not obeyed.

    Raises InvalidName, UnknownQueue.
    """
    found = queue_of(store, queue)
    known = store.services()
    if found.service not in known:
        close = get_close_matches(found.service, known, n=3)
        hint = f"did you mean {', '.join(close)}" if close else f"known: {', '.join(known[:10]) or 'none yet'}"
        raise UnknownQueue(
            f"{found.name(store.environment)}: no job or worker of a service {found.service!r} was ever seen; {hint}"
        )
    return found
