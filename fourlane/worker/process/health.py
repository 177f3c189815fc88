"""Whether a worker is well: what its probe tells of its processes, and until there are any."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fourlane.worker.process.child import Child

__all__ = ["STARTING", "Health", "Start", "health_of"]

STARTING: Final = "the worker is starting"

_LIVE_SECONDS: Final = 60.0  # longer than a Redis that does not answer can hold up one look
_READY_SECONDS: Final = 45.0  # an idle process takes a turn every 25 s


class Health(NamedTuple):
    """What the probe tells."""

    live: bool
    ready: bool
    details: dict[str, Any]


class Start:
    """What the probe tells until a supervisor runs: who waits for Redis is alive, and no restart would help it."""

    def __init__(self) -> None:
        self.why = STARTING

    def hear(self, why: str) -> None:
        """Why it waits."""
        self.why = why

    def health(self) -> Health:
        return Health(True, False, {"processes": [], "starting": self.why})


def health_of(children: Sequence[Child], places: int, looked_at: float, *, stopping: bool) -> Health:
    """For any thread. ``looked_at``: when the supervisor last looked after them."""
    processes: list[dict[str, Any]] = []
    ready = not stopping
    for child in list(children):
        try:
            told = _told_of(child)
        except ValueError:  # it has just ended and its table is closed
            continue
        silence = told["last_turn_seconds_ago"]
        serves = "wrong" not in told and silence is not None and silence < _READY_SECONDS
        ready = ready and (told["stopping"] or serves)
        processes.append(told)
    ready = ready and len(processes) == places
    return Health(time.monotonic() - looked_at < _LIVE_SECONDS, ready, {"processes": processes})


def _told_of(child: Child) -> dict[str, Any]:
    turned_at, wrong = child.table.turned_at, child.condemned or child.table.vitals().wrong
    return {
        "pid": child.process.pid,
        "last_turn_seconds_ago": round(time.monotonic() - turned_at, 1) if turned_at else None,
        "stopping": child.stopping_since is not None,
    } | ({"wrong": wrong} if wrong else {})
