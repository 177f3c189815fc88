"""Results as text and as docs/benchmarks.md; ``python -m benchmarks.report`` writes it anew from the stored results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import jobs
from benchmarks.goals import GOALS, Results, figure, figures

__all__ = ["in_short", "text", "write"]

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = Path(__file__).parent / "results" / "latest.json"


class Column(NamedTuple):
    """A figure that is shown for every peer."""

    case: str
    name: str
    title: str
    more_is_better: bool
    digits: int = 0


TABLES: dict[str, list[Column]] = {
    "Throughput, jobs a second": [
        Column("drain", "jobs_per_second", "drain, 1 process", True),
        Column("drain2", "jobs_per_second", "drain, 2 processes", True),
        Column("enqueue", "one_per_second", "enqueue one at a time", True),
        Column("enqueue", "bulk_per_second", "enqueue 1,000 a call", True),
    ],
    "Latency, milliseconds": [
        Column("pickup", "p50_ms", "pickup p50", False, 2),
        Column("pickup", "p99_ms", "pickup p99", False, 2),
        Column("priority", "p50_ms", "urgent p50", False, 1),
        Column("priority", "p99_ms", "urgent p99", False, 1),
        Column("delayed", "p50_ms", "delayed p50", False, 1),
        Column("delayed", "p99_ms", "delayed p99", False, 1),
    ],
    "Cost and recovery": [
        Column("drain", "bytes_per_job", "Redis bytes per queued job", False),
        Column("drain", "commands_per_job", "Redis commands per job, those inside scripts too", False, 3),
        Column("idle-memory", "rss_mb", "idle worker process, RSS MB", False),
        Column("idle-memory", "pss_mb", "idle worker process, PSS MB", False),
        Column("crash", "all_seconds", "killed worker's jobs run again, s", False, 1),
    ],
}
ALONE = [
    ("async", "jobs_per_second", "async jobs of 20 ms, 1,000 at once, jobs/s"),
    ("async", "uvloop_per_second", "a bare uvloop doing the same, jobs/s"),
    ("drain", "calls_per_job", "calls per job under load"),
    ("lone", "calls_per_job", "calls for a lone job, enqueue to done"),
    ("lone", "waits_per_job", "and blocking waits armed for the next job"),
    ("lone", "commands_per_job", "commands for a lone job, those inside scripts too"),
    ("idle", "calls_per_minute", "calls of an idle process per minute"),
    ("idle", "commands_per_minute", "commands of an idle process per minute"),
    ("idle", "supervisor_rss_mb", "supervisor, RSS MB"),
    ("start", "import_ms", "CPU of a program's import, with a task declared, ms"),
    ("start", "first_send_ms", "CPU of its first send, ms"),
    ("delayed-memory", "growth_mb", "growth of the worker with 100,000 delayed jobs, MB"),
    ("backlog", "shallow_us", "enqueue + lease + settle, 1,000 waiting, µs per job"),
    ("backlog", "deep_us", "enqueue + lease + settle, 1,000,000 waiting, µs per job"),
    ("backlog", "shallow_redis_us", "of it Redis's CPU, 1,000 waiting, µs"),
    ("backlog", "deep_redis_us", "of it Redis's CPU, 1,000,000 waiting, µs"),
    ("observe", "off_per_second", "no-op drain with nothing to be seen, jobs/s"),
    ("observe", "on_per_second", "the same with metrics, traces and Sentry on, jobs/s"),
    ("observe", "off_cpu_percent", "more CPU than without the hooks when all is off, %"),
    ("observe", "on_cpu_percent", "more CPU when all is on, %"),
]

WHAT = """\
- **drain**: the queue is filled first, then the workers start; jobs a second from the first tenth to the end (or for
  3 s). 8 slots a process where the peer has slots, 100 at once for BullMQ and taskiq.
- **enqueue**: one producer, 1.5 s.
- **pickup**: one job after another, with 20 to 150 ms between, to an idle worker; from before the enqueue to the first
  line of the function.
- **urgent**: 150 high-priority jobs, one each 10 to 30 ms, while 8 slots work on 5,000 low-priority jobs of 20 ms.
- **delayed**: how late 300 jobs run that are due within 1 to 5 s, with up to 100,000 more due in an hour (as many as
  could be enqueued in 15 s).
- **bytes**: growth of `used_memory` by 10,000 jobs or more that wait, or what could be enqueued in 8 s; a first job
  was there before, so that what a server keeps once is not counted.
- **commands** are all that INFO commandstats counts during the drain (the enqueue not included), those inside scripts
  too; **calls**, shown for Fourlane only, are the scripts and blocking pops among them. MONITOR counts both for a
  lone job, from its enqueue on, and for a minute that begins 35 s after the last job.
- **killed**: `kill -9` for the whole process group while 8 jobs run, another worker started at once; until all of them
  run again, at most 150 s. All peers at the same time, for they mostly wait.
- **start**: a new Python declares a task and sends a job: the CPU time of the least of 10.
- **memory**: of the process that runs the jobs, after a job; RSS, and PSS, which divides what processes share."""


def in_short(case: str, result: dict[str, Any]) -> str:
    """One measurement in a line."""
    if "failed" in result:
        return f"failed: {result['failed']}"
    found = result["figures"]
    if found is None:
        return "has no such thing"
    words = [f"{name}={value:,.4g}" for name, value in found.items() if isinstance(value, (int, float))]
    return " ".join(words)


def _shown(results: Results, column: Column, peer: str, *, spread: bool = True) -> str:
    """The median, with the least and the most in brackets; or why there is none."""
    kept = results["cases"].get(column.case, {}).get(peer)
    if kept is None:
        return "–"
    values = figures(results, column.case, peer, column.name)
    if not values:
        if column.case == "crash" and kept["runs"]:
            return _not_again(kept["runs"][0])
        return "failed" if kept["failed"] else "–"
    middle = figure(results, column.case, peer, column.name)
    shown = f"{middle:,.{column.digits}f}"
    if spread and len(values) > 1 and f"{min(values):,.{column.digits}f}" != f"{max(values):,.{column.digits}f}":
        shown += f" ({min(values):,.{column.digits}f}–{max(values):,.{column.digits}f})"
    if column.case == "delayed" and kept["runs"][0]["waiting"] < 100_000:
        shown += f" [{kept['runs'][0]['waiting'] // 1000}k]"
    if column.case == "delayed" and kept["runs"][0]["ran"] < 300:
        shown += f" [{kept['runs'][0]['ran']} of 300 ran]"
    return shown


def _not_again(run: dict[str, Any]) -> str:
    some = f", {run['ran_again']} of {run['held']} did after {run['first_seconds']:.0f} s" if run["ran_again"] else ""
    return f"not within {run['waited_seconds']:.0f}{some}"


def _table(results: Results, columns: list[Column]) -> str:
    peers = list(results["peers"])
    lines = ["| | " + " | ".join(peers) + " |", "|---" * (len(peers) + 1) + "|"]
    for column in columns:
        if column.case in results["cases"]:
            lines.append(f"| {column.title} | " + " | ".join(_shown(results, column, p) for p in peers) + " |")
    return "\n".join(lines)


def goals_table(results: Results) -> str:
    """Each figure to reach, and by how much it is reached or missed."""
    lines = ["| figure | goal | measured | |", "|---|---|---|---|"]
    for goal in GOALS:
        verdict = goal.judge(results)
        if verdict is None:
            measured, mark = "–", "not measured in this run"
        else:
            measured = f"{_judged(verdict.value)} {goal.unit}".strip() + (f" ({verdict.how})" if verdict.how else "")
            off = goal.missed_by(verdict.value)
            mark = "reached" if goal.reached(verdict.value) else f"**missed by {off:.0%}**"
        lines.append(f"| {goal.what} | {goal.text()} | {measured} | {mark} |")
    return "\n".join(lines)


def _judged(value: float) -> str:
    return f"{value:,.2f}" if value >= 1 or not value else f"{value:.2g}"


def alone_table(results: Results) -> str:
    lines = ["| | |", "|---|---|"]
    for case, name, title in ALONE:
        column = Column(case, name, title, True, 0 if name.endswith("_per_second") else 3 if case == "drain" else 2)
        if case in results["cases"]:
            lines.append(f"| {title} | {_shown(results, column, 'fourlane')} |")
    return "\n".join(lines)


def not_first(results: Results) -> str:
    """Where a peer's median is better than Fourlane's."""
    lines = []
    for column in (c for columns in TABLES.values() for c in columns):
        ours = figure(results, column.case, "fourlane", column.name)
        if ours is None:
            continue
        better = []
        for peer in results["peers"]:
            theirs = figure(results, column.case, peer, column.name)
            if theirs is not None and (theirs > ours if column.more_is_better else theirs < ours):
                better.append(f"{peer} {theirs:,.{column.digits}f}")
        if better:
            lines.append(f"- {column.title}: {', '.join(better)}; Fourlane {ours:,.{column.digits}f}.")
    return "\n".join(lines) or "- Nowhere in this run."


def faults(results: Results) -> str:
    """Peers that are missing, and cases that failed, with the reason."""
    lines = [f"- {peer}: not here ({why})" for peer, why in results["missing"].items()]
    for case, found in results["cases"].items():
        for peer, kept in found.items():
            lines += [f"- {case}, {peer}: {why}" for why in dict.fromkeys(kept["failed"])]
    return "\n".join(lines) or "- None."


def noise(results: Results) -> str:
    """How busy the machine was with other things when the measurements began."""
    shares = sorted(b for found in results["cases"].values() for kept in found.values() for b in kept["busy"])
    if not shares:
        return "unknown"
    busy = sum(share >= 0.25 for share in shares)
    return f"median {shares[len(shares) // 2]:.0%} busy; {busy} of {len(shares)} measurements began on a busy machine"


def text(results: Results) -> str:
    """What the command prints at its end."""
    parts = [goals_table(results)]
    for title, columns in TABLES.items():
        parts += [title, _table(results, columns)]
    parts += ["Fourlane alone", alone_table(results), "Where Fourlane is not first", not_first(results)]
    parts += ["Failed or missing", faults(results), f"Other load before the measurements: {noise(results)}"]
    parts += [f"took {results['minutes']} minutes"]
    return "\n\n".join(parts)


def write(results: Results) -> None:
    """Write docs/benchmarks.md and its plots."""
    from benchmarks import plots

    images = plots.draw(results, DOCS / "img")
    rows = [
        f"| {name} | {about['version']} | {about['acknowledged']} | {about['settings']} |"
        for name, about in results["peers"].items()
    ]
    tables = "\n\n".join(f"### {title}\n\n{_table(results, columns)}" for title, columns in TABLES.items())
    pictures = "\n".join(f"![{alt}](img/{file})" for file, alt in images)
    notes = "".join(f"\n- {note}" for note in results.get("notes", []))
    (DOCS / "benchmarks.md").write_text(
        f"""# Benchmarks

Written by `make bench` ([benchmarks/](../benchmarks/README.md)); do not edit. Every figure is of one run on one
machine, and only ratios within a run mean much: Redis, producer and workers share its cores.

- date: {results["date"]}; command: `{results["command"]}`; {results["minutes"]} minutes
- machine: {results["machine"]}
- {results["python"]}, {results["redis"]} without persistence, redis-py {results["redis_py"]}
- medians of {results["repeated"]} (least–most), the order of the peers rotated; delayed, killed, idle, memory
  and backlog once; the job does nothing and has one argument of {len(json.dumps(jobs.PAYLOAD))} bytes as JSON
- what else the machine did just before the measurements: {noise(results)}

## Goals

{goals_table(results)}

## Beside the peers

{pictures}

{tables}

In brackets behind a delayed figure: fewer than 100,000 were waiting, or not all of the 300 ran in time.

### Where Fourlane is not first

{not_first(results)}

### Failed or missing

{faults(results)}{notes}

## Fourlane alone

{alone_table(results)}

## What was measured

{WHAT}

## Settings of each peer

| peer | version | acknowledged | settings |
|---|---|---|---|
{chr(10).join(rows)}
"""
    )


if __name__ == "__main__":
    stored = json.loads(RESULTS.read_text())
    write(stored)
    print(text(stored))
