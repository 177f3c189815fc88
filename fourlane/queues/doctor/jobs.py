"""The jobs and their workers: tasks that nobody knew, workers that are lost, queues that nobody serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from fourlane.queues import browse
from fourlane.queues.browse import ServiceInfo, WorkerInfo
from fourlane.queues.doctor.findings import NEAR, Finding, Level, some
from fourlane.queues.store import Store

__all__ = ["look_at_queues", "look_at_tasks", "look_at_workers", "unserved"]


def look_at_tasks(store: Store) -> Iterator[Finding]:
    unknown = browse.unknown_tasks(store)
    if not unknown:
        yield Finding(Level.OK, "tasks", "no job of the last 48 hours named a task that its worker did not know")
        return
    names = some([f"{task.name} ({task.service})" for task in unknown])
    yield Finding(
        Level.WARN,
        "tasks",
        f"{len(unknown):,} task(s) that some worker did not know: {names}",
        "start a worker that imports the module that declares them; their jobs wait for it for 24 hours",
    )


def look_at_workers(workers: Sequence[WorkerInfo]) -> Iterator[Finding]:
    for worker in workers:
        if worker.overrun is not None and not worker.lost:
            yield Finding(
                Level.ERROR,
                "jobs",
                f"{worker.overrun} in {worker.name}",
                "its function does not heed the interrupt (docs/runbooks/job-overrun.md)",
            )
    lost = [f"{worker.name} on {worker.host or '?'}" for worker in workers if worker.lost]
    if lost:
        yield Finding(
            Level.WARN,
            "workers",
            f"{len(lost):,} worker(s) not seen for 90 s: {some(lost)}",
            "see whether they crashed or lost their connection; their jobs went to others",
        )
        return
    versions = Counter(worker.version for worker in workers if worker.version)
    if len(versions) > 1:
        told = ", ".join(f"{version} × {number}" for version, number in sorted(versions.items()))
        yield Finding(Level.WARN, "workers", f"of different versions: {told}", "finish the deploy")
        return
    yield Finding(Level.OK, "workers", f"{len(workers):,} running")


def unserved(service: ServiceInfo) -> int:
    """Jobs that wait for a worker, where there is none; paused queues left out."""
    return 0 if service.workers else service.delayed + sum(q.ready for q in service.queues if not q.paused)


def look_at_queues(store: Store) -> Iterator[Finding]:
    services = browse.services(store)
    for service in services:
        if waiting := unserved(service):
            yield Finding(
                Level.WARN,
                "queues",
                f"{waiting:,} job(s) of {service.name} wait, and no worker serves it",
                f"start one: fourlane worker, with the tasks of {service.name}",
            )
    full = [
        f"{queue.name} ({queue.dead:,})"
        for service in services
        for queue in service.queues
        if queue.dead >= store.dead_max * NEAR
    ]
    if full:
        yield Finding(
            Level.WARN,
            "dead letters",
            f"near the limit of {store.dead_max:,}, where the oldest are dropped: {some(full)}",
            "replay or discard them (fourlane dead), or raise FOURLANE_DEAD_MAX",
        )
        return
    total = sum(queue.dead for service in services for queue in service.queues)
    yield Finding(Level.OK, "dead letters", f"{total:,}, none of the queues near the limit of {store.dead_max:,}")
