"""The figures to reach: ratios to a peer in the same run, or plain limits. Goals are judged on medians."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

__all__ = ["GOALS", "Goal", "Verdict", "figure", "figures"]

Results = dict[str, Any]


def figures(results: Results, case: str, peer: str, name: str) -> list[float]:
    """A figure of all runs; empty when there is none."""
    runs = results["cases"].get(case, {}).get(peer, {}).get("runs", [])
    return [run[name] for run in runs if run and run.get(name) is not None]


def figure(results: Results, case: str, peer: str, name: str) -> float | None:
    """Its median."""
    found = figures(results, case, peer, name)
    return median(found) if found else None


@dataclass(frozen=True)
class Verdict:
    """How a goal stands: the value to judge, and how it came about."""

    value: float
    how: str


@dataclass(frozen=True)
class Goal:
    what: str
    limit: float
    unit: str
    least: bool
    """True: the value should be at least the limit; False: at most."""
    judge: Callable[[Results], Verdict | None]

    def text(self) -> str:
        return f"{'≥' if self.least else '≤'} {self.limit:g} {self.unit}".strip()

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit

    def missed_by(self, value: float) -> float:
        """As a share of the limit."""
        return abs(value - self.limit) / self.limit


def _against(case: str, name: str, peer: str) -> Callable[[Results], Verdict | None]:
    """Fourlane's figure divided by the peer's."""

    def judge(results: Results) -> Verdict | None:
        ours, theirs = figure(results, case, "fourlane", name), figure(results, case, peer, name)
        if ours is None or theirs is None:
            return None
        return Verdict(ours / theirs, f"{_number(ours)} : {_number(theirs)}")

    return judge


def _own(case: str, name: str) -> Callable[[Results], Verdict | None]:
    def judge(results: Results) -> Verdict | None:
        ours = figure(results, case, "fourlane", name)
        return None if ours is None else Verdict(ours, "")

    return judge


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _async(results: Results) -> Verdict | None:
    """75 % of a bare uvloop, or 35,000/s, whichever is easier."""
    ours, bare = (figure(results, "async", "fourlane", n) for n in ("jobs_per_second", "uvloop_per_second"))
    if ours is None or bare is None:
        return None
    share = ours / min(bare, 35_000 / 0.75) * 100
    return Verdict(share, f"{_number(ours)}/s, bare uvloop {_number(bare)}/s")


GOALS = [
    Goal("drain, 1 process, to BullMQ", 4, "×", True, _against("drain", "jobs_per_second", "bullmq")),
    Goal("drain, 1 process, to dramatiq", 36, "×", True, _against("drain", "jobs_per_second", "dramatiq")),
    Goal("drain, 2 processes, to BullMQ", 7, "×", True, _against("drain2", "jobs_per_second", "bullmq")),
    Goal("async jobs of 20 ms, 1,000 at once, to a bare uvloop (or 35,000/s)", 75, "%", True, _async),
    Goal("enqueue one at a time, to huey", 1.2, "×", True, _against("enqueue", "one_per_second", "huey")),
    Goal("enqueue in bulk, to BullMQ addBulk", 10, "×", True, _against("enqueue", "bulk_per_second", "bullmq")),
    Goal("pickup p50, to huey", 1, "×", False, _against("pickup", "p50_ms", "huey")),
    Goal("pickup p99, to huey", 1, "×", False, _against("pickup", "p99_ms", "huey")),
    Goal("P0 behind 5,000 P2, p50, to BullMQ", 1, "×", False, _against("priority", "p50_ms", "bullmq")),
    Goal("P0 behind 5,000 P2, p99, to BullMQ", 1, "×", False, _against("priority", "p99_ms", "bullmq")),
    Goal("lateness of delayed jobs, p99", 10, "ms", False, _own("delayed", "p99_ms")),
    Goal("memory growth with 100,000 delayed jobs", 2, "MB", False, _own("delayed-memory", "growth_mb")),
    Goal("Redis bytes per queued job", 300, "B", False, _own("drain", "bytes_per_job")),
    Goal("calls per job under load", 0.1, "", False, _own("drain", "calls_per_job")),
    Goal("calls for a lone job", 3, "", False, _own("lone", "calls_per_job")),
    Goal("calls of an idle process per minute", 12, "", False, _own("idle", "calls_per_minute")),
    Goal("commands per job under load", 0.4, "", False, _own("drain", "commands_per_job")),
    Goal("commands for a lone job", 14, "", False, _own("lone", "commands_per_job")),
    Goal("commands of an idle process per minute", 40, "", False, _own("idle", "commands_per_minute")),
    Goal("a killed worker's jobs run again after", 6, "s", False, _own("crash", "all_seconds")),
    Goal("memory of an idle worker process (RSS)", 45, "MB", False, _own("idle", "rss_mb")),
    Goal("memory of a supervisor (RSS)", 25, "MB", False, _own("idle", "supervisor_rss_mb")),
    Goal("CPU time of a program's import and first send", 150, "ms", False, _own("start", "start_ms")),
    Goal("no-op drain lost to the hooks when all is off", 3, "%", False, _own("observe", "off_cost_percent")),
    Goal("no-op drain lost with metrics, traces and Sentry on", 15, "%", False, _own("observe", "on_cost_percent")),
    Goal("cost per job with 1,000,000 waiting, to 1,000", 1.1, "×", False, _own("backlog", "ratio")),
]
