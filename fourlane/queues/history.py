"""The history of a schedule's runs.

It is a list of lines, words parted by spaces, times in milliseconds:
  f NOMINAL DUE AT JOB   a job was made for this nominal time (due is later by spread and jitter)
  n NOMINAL DUE AT JOB   likewise, by hand
  s NOMINAL DUE AT JOB   skipped, because this earlier job was alive
  q NOMINAL DUE AT JOB   to run when this earlier job has ended
  m FIRST LAST AT        nominal times that were missed and are not caught up
  e NOMINAL JOB STATE STARTED MS   a job has ended
"""

from __future__ import annotations

from typing import Final

import msgspec

from fourlane.errors import JobNotFound
from fourlane.job import State
from fourlane.names import Queue, Tier
from fourlane.queues import browse
from fourlane.queues.store import Store

__all__ = ["Run", "history"]

HISTORY_RUNS: Final = 100


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One line of history as people read it."""

    nominal_ms: int
    at_ms: int
    state: str
    """ready, running … (a job's states), skipped, queued, or missed."""
    job: str = ""
    manual: bool = False
    late_ms: int = 0
    started_ms: int | None = None
    duration_ms: int | None = None
    missed_from_ms: int | None = None


def history(store: Store, service: str, name: str) -> list[Run]:
    """The last runs, the newest first. States of jobs whose end is not noted are asked of the queues."""
    key = store.service(service).runs(name)
    runs: list[Run] = []
    ends: dict[str, list[str]] = {}
    for line in store.connector.command(key, "LRANGE", key, 0, -1):
        kind, *words = line.decode().split(" ")
        if kind == "e":
            ends[words[1]] = words
        elif kind == "m":
            runs.append(
                Run(nominal_ms=int(words[1]), at_ms=int(words[2]), state="missed", missed_from_ms=int(words[0]))
            )
        else:
            nominal, due_at, at, job = int(words[0]), int(words[1]), int(words[2]), words[3]
            state = {"s": "skipped", "q": "queued"}.get(kind, "")
            late = max(0, at - due_at) if not state else 0
            runs.append(Run(nominal_ms=nominal, at_ms=at, state=state, job=job, manual=kind == "n", late_ms=late))
    shown = []
    for run in reversed(runs[-HISTORY_RUNS:]):
        if run.state:
            shown.append(run)
        elif end := ends.get(run.job):
            shown.append(msgspec.structs.replace(run, state=end[2], started_ms=int(end[3]), duration_ms=int(end[4])))
        else:
            shown.append(msgspec.structs.replace(run, state=_state_of(store, service, run.job)))
    return shown


def _state_of(store: Store, service: str, job_id: str) -> str:
    try:
        return str(browse.job(store, job_id, Queue(service, Tier(int(job_id[0])))).state)
    except JobNotFound:
        return str(State.UNKNOWN)
