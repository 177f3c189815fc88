"""The figures: what they are called, what they say, and the sums of them.

The catalogue names every one. Labels are bounded: a figure has at most 1,000 series, those that come later are counted
together as ``other``.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, NamedTuple

import msgspec

__all__ = ["CATALOGUE", "RUN_SECONDS", "WAIT_SECONDS", "Exemplar", "Figures", "Times", "bucket_of"]

_MOST_SERIES: Final = 1_000
_OTHER: Final = "other"

RUN_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
WAIT_SECONDS: Final = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
CALL_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
QUERY_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
TOKENS_A_SECOND: Final = (1.0, 5.0, 10.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0)


class Figure(NamedTuple):
    """One figure: what it says, its labels, the bounds of its buckets when it is a time, or a rate; or whether it is a
    level, which goes down again."""

    help: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()
    is_level: bool = False


_JOB: Final = ("task", "tier", "service")
CATALOGUE: Final[dict[str, Figure]] = {
    "jobs": Figure(
        "Runs that ended: done, retry, dead, postponed, cancelled, given-back, unknown-task.", (*_JOB, "outcome")
    ),
    "job_run_seconds": Figure("How long runs took that ended done, retry or dead.", _JOB, RUN_SECONDS),
    "job_wait_seconds": Figure("From enqueue to the begin of the first run.", ("tier", "service"), WAIT_SECONDS),
    "turns": Figure("Calls of the worker's turn script.", ("service",)),
    "stale_acks": Figure("Ends of runs that were refused because the lease was lost.", ("service",)),
    "leases_lost": Figure("Times a worker lost its leases.", ("service",)),
    "ai_batch_requests": Figure("Requests of AI batches, by what became of them.", ("provider", "outcome")),
    "ai_calls": Figure(
        "AI calls that were made: ok, truncated, tool_calls, refused, blocked, empty, error.",
        ("provider", "model", "tenant", "outcome"),
    ),
    "ai_task_calls": Figure("AI calls, by the task that made them.", ("task", "outcome")),
    "ai_tokens": Figure(
        "Tokens of AI calls: in, cached of these; out, reasoning of these.",
        ("provider", "model", "tenant", "direction"),
    ),
    "ai_cost_usd": Figure("What AI calls cost.", ("provider", "model", "tenant")),
    "ai_task_cost_usd": Figure("What AI calls cost, by the task that made them.", ("task",)),
    "ai_call_seconds": Figure("How long AI calls took.", ("provider", "model", "outcome"), CALL_SECONDS),
    "ai_first_seconds": Figure(
        "From the start of AI calls until the first piece of their answer.", ("provider", "model"), CALL_SECONDS
    ),
    "ai_tokens_a_second": Figure(
        "How fast AI models write, from the first piece on.", ("provider", "model"), TOKENS_A_SECOND
    ),
    "ai_budget": Figure("Budgets of tenants that calls met: warned (80 %), refused, postponed.", ("tenant", "what")),
    "provider_calls": Figure("Calls to providers: ok, down, limited, neutral.", ("provider", "model", "verdict")),
    "provider_wait_seconds": Figure(
        "How long calls to a provider waited for room under its limits.", ("provider", "model"), CALL_SECONDS
    ),
    "provider_refused": Figure(
        "Calls that were not made: the breaker was open (down), there was no room (limited).",
        ("provider", "model", "why"),
    ),
    "webhook_deliveries": Figure("Attempts to deliver a webhook: the status or the fault.", ("result",)),
    "database_query_seconds": Figure(
        "How long statements took: select, insert, update, delete, other.",
        ("statement",),
        QUERY_SECONDS,
    ),
    "database_connections": Figure("Connections to the database: in_use, idle.", ("state",), is_level=True),
    "trace_spans_dropped": Figure("Spans that no collector took.", ()),
}


class Exemplar(msgspec.Struct, frozen=True, array_like=True):
    """One run that a bucket counts, and its trace."""

    trace_id: str
    seconds: float
    at: float


class Times(msgspec.Struct, array_like=True):
    """A histogram: counts by bucket, the last one for what is above all bounds; exemplars by bucket."""

    buckets: list[int]
    sum: float = 0.0
    exemplars: dict[int, Exemplar] = {}


class Figures(msgspec.Struct):
    """All figures of a process; the keys are the label values, parted by a line feed."""

    counts: dict[str, dict[str, float]] = {}
    times: dict[str, dict[str, Times]] = {}
    levels: dict[str, dict[str, float]] = {}
    """What is now; it ends with its process."""

    def add(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """Count so many more, or less of a level."""
        counts = (self.levels if CATALOGUE[name].is_level else self.counts).setdefault(name, {})
        key = _bounded(counts, "\n".join(labels))
        counts[key] = counts.get(key, 0) + value

    def add_times(self, name: str, labels: tuple[str, ...], buckets: list[int], total: float) -> None:
        """Add a batch of times, sorted into their buckets."""
        one = self._times_of(name, labels)
        one.buckets = [a + b for a, b in zip(one.buckets, buckets, strict=True)]
        one.sum += total

    def add_exemplar(self, name: str, labels: tuple[str, ...], exemplar: Exemplar) -> None:
        """Name the trace of one that was timed."""
        self._times_of(name, labels).exemplars[bucket_of(name, exemplar.seconds)] = exemplar

    def _times_of(self, name: str, labels: tuple[str, ...]) -> Times:
        series = self.times.setdefault(name, {})
        key = _bounded(series, "\n".join(labels))
        if key not in series:
            series[key] = Times([0] * (len(CATALOGUE[name].bounds) + 1))
        return series[key]

    def fold(self, other: Figures) -> None:
        """Add another process's figures to these."""
        _fold(self.counts, other.counts)
        _fold(self.levels, other.levels)
        for name, series in other.times.items():
            held = self.times.setdefault(name, {})
            for key, times in series.items():
                key = _bounded(held, key)
                if key not in held:
                    held[key] = Times(list(times.buckets), times.sum, dict(times.exemplars))
                    continue
                one = held[key]
                one.buckets = [a + b for a, b in zip(one.buckets, times.buckets, strict=True)]
                one.sum += times.sum
                one.exemplars.update(times.exemplars)


def _fold(mine: dict[str, dict[str, float]], other: dict[str, dict[str, float]]) -> None:
    for name, counts in other.items():
        held = mine.setdefault(name, {})
        for key, value in counts.items():
            key = _bounded(held, key)
            held[key] = held.get(key, 0) + value


def bucket_of(name: str, seconds: float) -> int:
    """The place among a figure's buckets."""
    return bisect_left(CATALOGUE[name].bounds, seconds)


def _bounded(series: dict[str, float] | dict[str, Times], key: str) -> str:
    """The key, or the one of all that came too late."""
    if key in series or len(series) < _MOST_SERIES:
        return key
    return "\n".join([_OTHER] * (key.count("\n") + 1))
