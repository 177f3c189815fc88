"""The whole examination."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fourlane.queues import kept, rights
from fourlane.queues.browse import WorkerInfo
from fourlane.queues.doctor.findings import Finding, Level
from fourlane.queues.doctor.jobs import look_at_queues, look_at_tasks, look_at_workers
from fourlane.queues.doctor.keyspace import look_at_keys
from fourlane.queues.doctor.server import look_at_server
from fourlane.queues.store import Store

__all__ = ["examine"]


def examine(store: Store, *, workers: Sequence[WorkerInfo]) -> list[Finding]:
    """Look at everything.

    Parameters:
      workers: what ``browse.workers`` told.

    Raises:
      RedisUnavailable: the server does not answer at all.
    """
    findings: list[Finding] = []
    links = list(store.connector.open_all())
    try:
        for where, link in links:
            prefix = f"{where}: " if where else ""
            findings += (msgspec.structs.replace(f, text=prefix + f.text) for f in look_at_server(link))
        findings += look_at_keys(store, [link for _, link in links])
    finally:
        for _, link in links:
            link.close()
    findings.append(_rights(store))
    findings.append(_declared(store))
    findings += look_at_tasks(store)
    findings += look_at_workers(workers)
    findings += look_at_queues(store)
    return findings


def _rights(store: Store) -> Finding:
    lacking = rights.denied(store)
    if not lacking:
        return Finding(Level.OK, "rights", "this user may run all that Fourlane needs")
    text = rights.fault(store, lacking)
    return Finding(Level.ERROR, "rights", text, "give it the rights that docs/operating.md lists")


def _declared(store: Store) -> Finding:
    if not kept.is_lost(store):
        return Finding(Level.OK, "data", "Redis has what running programs declared to it")
    return Finding(
        Level.ERROR,
        "data",
        "Redis lost its data: schedules and limits that code declares are not back yet",
        "workers and schedulers declare them again within seconds; see their logs, and set appendonly yes",
    )
