"""The kinds of jobs of a run, as facts that tasks, producers and the checker share."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CONCURRENCY", "KINDS", "RATE", "SERVICES", "TICKS", "VERSIONS", "Kind", "Tick", "versions_with"]

SERVICES = ("front", "bulk", "solo", "slow", "paced")


@dataclass(frozen=True)
class Kind:
    """One task, and what becomes of its jobs when all promises hold."""

    name: str
    service: str
    tier: int
    weight: int = 0
    """How often it is sent, beside the others."""
    fails: int = 0
    """Attempts that fail before one succeeds."""
    reason: str = ""
    """It always becomes a dead letter, for this reason."""
    delayed: bool = False
    cancelled: bool = False
    answers: bool = False
    outbox: bool = False
    """It is sent by a row of the outbox, and a relay."""
    limited: bool = False
    seconds: tuple[float, float] = (0.0, 0.0)
    """It runs so long."""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("probe", "front", 0, weight=16),
        Kind("quick", "front", 1, weight=20),
        Kind("later", "front", 1, weight=6, delayed=True),
        Kind("nap", "front", 2, weight=2, seconds=(0.5, 3.0)),
        Kind("outboxed", "front", 1, weight=4, outbox=True),
        Kind("doomed", "front", 1, weight=1, fails=2, reason="error"),
        Kind("grind", "bulk", 2, weight=10, seconds=(0.1, 0.1)),
        Kind("async_grind", "bulk", 2, weight=8, seconds=(0.05, 0.2)),
        Kind("async_nap", "bulk", 1, weight=4, seconds=(1.0, 9.0)),
        Kind("flaky", "bulk", 1, weight=6, fails=2),
        Kind("async_answer", "bulk", 1, weight=3, answers=True),
        Kind("condemned", "bulk", 2, weight=2, cancelled=True, seconds=(25.0, 25.0)),
        Kind("condemned_later", "front", 1, weight=1, delayed=True, cancelled=True),
        Kind("alone", "solo", 1, weight=8),
        Kind("answer", "solo", 1, weight=3, answers=True),
        Kind("stubborn", "solo", 2, weight=1, seconds=(1.0, 4.0)),
        Kind("deadly", "solo", 1, reason="poison"),
        Kind("narrow", "slow", 2, weight=6, limited=True, seconds=(0.1, 0.1)),
        Kind("measured", "paced", 1, weight=8, limited=True),
        Kind("old_name", "front", 1, weight=1),
        Kind("new_name", "front", 1, weight=1),
        Kind("added", "bulk", 1, weight=1),
    )
}
CONCURRENCY = 3
"""Jobs of the queue of ``narrow`` that may run at once."""
RATE, BURST = 20, 5
"""Jobs of the queue of ``measured`` that may start in a second, and beyond it after a quiet time."""


@dataclass(frozen=True)
class Tick:
    """A schedule."""

    name: str
    seconds: int
    complete: bool
    """Each nominal time must come; else one may be skipped while the job before is not done."""


TICKS = (Tick("steady", 2, True), Tick("skipping", 1, False))

VERSIONS = {
    "1": frozenset({"old_name"}),
    "2": frozenset({"new_name", "added"}),
    "3": frozenset({"new_name"}),
    "all": frozenset({"old_name", "new_name", "added"}),
}
"""What the deploys of the application declare besides the tasks that all of them have."""


def versions_with(kind: str) -> set[str]:
    """The versions that know a kind."""
    changing = VERSIONS["all"]
    return {version for version, names in VERSIONS.items() if kind in names or kind not in changing}
