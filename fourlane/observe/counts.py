"""Counts the ends of runs, a turn's at once: nothing is done for each job while it runs."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from fourlane.job import ready_since_ms
from fourlane.observe.figures import RUN_SECONDS, WAIT_SECONDS
from fourlane.observe.meter import Meter
from fourlane.outcome import Back, Cancel, Dead, Done, Outcome, Postpone, Result, Retry
from fourlane.telling import Ends, Observer

__all__ = ["RunCounts"]

Ended: TypeAlias = Sequence[tuple[Any, Outcome]]
Kind: TypeAlias = tuple[Any, str, type]
"""Task (its Plan), tier and kind of outcome."""

_TIERS: Final = ("high", "normal", "low", "scheduled")
_WORDS: Final[dict[type, str]] = {
    Done: "done",
    Result: "done",
    Retry: "retry",
    Dead: "dead",
    Postpone: "postponed",
    Cancel: "cancelled",
    Back: "given-back",
}
_TIMED: Final = frozenset((Done, Result, Retry, Dead))
_OF_RULES: Final = ("done", "retry", "dead")
_MOST_TASKS: Final = 200  # of the series that a figure may have, most are left for what comes
_MOST_SERVICES: Final = 100
_LOOKED_AT: Final = 8  # of each turn's runs, for their times


class RunCounts(Observer):
    """All ends are counted. The times of a large turn are those of some of its runs, which stand for the others of
    their kind: a thousand empty jobs in a turn need not be looked at one by one."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter

    def declared(self, services: Sequence[str], tasks: Sequence[tuple[str, str, str]]) -> None:
        """Counters begin at 0 with the worker: of one that begins with 1, nobody sees a rise."""
        for service in services[:_MOST_SERVICES]:
            self.serving(service)
        for task in sorted(tasks)[:_MOST_TASKS]:
            for word in _OF_RULES:
                self.meter.counted("jobs", (*task, word), 0)

    def serving(self, service: str) -> None:
        for name in ("turns", "stale_acks", "leases_lost"):
            self.meter.counted(name, (service,), 0)
        for tier in _TIERS:
            self.meter.record("job_wait_seconds", (tier, service), [0] * (len(WAIT_SECONDS) + 1), 0.0)

    def turned(self, ends: Ends) -> None:
        service, runs = ends.service, ends.runs
        looked_at = runs[:: 1 + (len(runs) - 1) // _LOOKED_AT]
        numbers = _numbers(runs, ends.plain)
        times = _times(numbers, looked_at, runs)
        for (plan, tier, kind), number in numbers.items():
            labels = (plan.name or "unknown", _TIERS[int(tier)], service)
            self.meter.counted("jobs", (*labels, _WORDS[kind] if plan.name else "unknown-task"), number)
            if kind in _TIMED and plan.name:
                buckets, total = _sorted_in(RUN_SECONDS, times[plan, tier, kind], number)
                self.meter.record("job_run_seconds", labels, buckets, total)
        self._count_waits(service, looked_at, len(runs))

    def _count_waits(self, service: str, looked_at: Ended, number: int) -> None:
        offset_ms = (time.time() - time.monotonic()) * 1000
        waits: dict[str, list[float]] = {}
        for run, _ in looked_at:
            entry = run.leased.entry
            since = ready_since_ms(entry)
            if since is not None and run.started:
                waits.setdefault(entry[0], []).append(max(0.0, (run.started * 1000 + offset_ms - since) / 1000))
        step = 1 + (number - 1) // _LOOKED_AT
        for tier, seconds in waits.items():
            buckets, total = _sorted_in(WAIT_SECONDS, seconds, min(number, len(seconds) * step))
            self.meter.record("job_wait_seconds", (_TIERS[int(tier)], service), buckets, total)


def _numbers(ended: Ended, plain: list[Any]) -> Mapping[Kind, int]:
    """How many of each kind. Where all are plain runs of one task, only their tiers need be counted."""
    if len(plain) == len(ended) and len(set(plain)) == 1:
        tiers = Counter([run.leased.entry[0] for run, _ in ended])
        plan = plain[0]
        return {(plan, tier, Done): number for tier, number in tiers.items()}
    return Counter([(run.plan, run.leased.entry[0], type(outcome)) for run, outcome in ended])


def _times(numbers: Mapping[Kind, int], looked_at: Ended, ended: Ended) -> Mapping[Kind, list[float]]:
    """Seconds that some runs of each kind took."""
    if len(numbers) == 1:
        [kind] = numbers
        return {kind: [run.ended_at - run.started for run, _ in looked_at]}
    times: dict[Kind, list[float]] = {}
    for run, outcome in looked_at:
        times.setdefault((run.plan, run.leased.entry[0], type(outcome)), []).append(run.ended_at - run.started)
    if len(times) < len(numbers):
        for run, outcome in ended:
            kind = (run.plan, run.leased.entry[0], type(outcome))
            if kind not in times:
                times[kind] = [run.ended_at - run.started]
    return times


def _sorted_in(bounds: tuple[float, ...], seconds: list[float], number: int) -> tuple[list[int], float]:
    """Buckets and sum of so many times, of which these are known."""
    buckets = [0] * (len(bounds) + 1)
    each, rest = divmod(number, len(seconds))
    for place, value in enumerate(seconds):
        buckets[bisect_left(bounds, value)] += each + (place < rest)
    return buckets, sum(seconds) * number / len(seconds)
