"""Findings as text, each with the smallest evidence: the job's lines and the faults that were near."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby, pairwise

from tests.chaos.checker import Finding, explain
from tests.chaos.evidence import Evidence, Run
from tests.chaos.site import Fault

__all__ = ["report"]

SHOWN = 3
NEAR_SECONDS = 10.0


def report(evidence: Evidence, findings: Sequence[Finding]) -> str:
    """A summary, then some findings of each rule."""
    parts = [_summary(evidence)]
    for rule, group in groupby(sorted(findings, key=lambda f: f.rule), lambda f: f.rule):
        found = list(group)
        parts.append(f"\n{rule}: {len(found)}")
        parts += [_one(evidence, finding) for finding in found[:SHOWN]]
        if len(found) > SHOWN:
            parts.append(f"  and {len(found) - SHOWN} more")
    return "\n".join(parts)


def _summary(e: Evidence) -> str:
    runs = [run for found in e.runs.values() for run in found]
    pairs = [pair for found in e.runs.values() for pair in pairwise(found)]
    again = Counter(explain(e, before, after) or "UNEXPLAINED" for before, after in pairs)
    faults = Counter(f.name for f in e.faults)
    lines = [
        f"{len(e.accepted)} jobs accepted, {len(e.refused)} refused, {len(runs)} runs of {len(e.runs)} jobs, "
        f"{sum(run.end == 'end' for run in runs)} ended",
        "faults: " + (", ".join(f"{name} {number}" for name, number in sorted(faults.items())) or "none"),
        "ran again: " + (", ".join(f"{why} {number}" for why, number in again.most_common()) or "none"),
    ]
    drained = e.story.drained - e.story.calmed if e.story.drained else None
    lines.append("drained " + (f"{drained:.1f} s after the last fault" if drained is not None else "never"))
    return "\n".join(lines)


def _one(e: Evidence, finding: Finding) -> str:
    job = f" job {finding.job}" if finding.job else ""
    lines = [f"  - {finding.text}{job}"]
    lines += [f"      {_run(e, run)}" for run in finding.runs[-4:]]
    if finding.at:
        near = [f for f in e.faults if f.began <= finding.at + 1 and f.ended >= finding.at - NEAR_SECONDS]
        lines += [f"      fault {_fault(e, fault)}" for fault in near[-6:]]
    return "\n".join(lines)


def _run(e: Evidence, run: Run) -> str:
    end = f"{run.end} at {_at(e, run.ended)}" if run.end else "no end"
    return f"{run.kind} attempt {run.attempt} pid {run.pid} of {run.parent}: {_at(e, run.began)}, {end}"


def _fault(e: Evidence, fault: Fault) -> str:
    pids = f" pids {','.join(map(str, fault.pids))}" if fault.pids else ""
    return f"{fault.name} {fault.who}{pids} {_at(e, fault.began)} to {_at(e, fault.ended)} {fault.text}".rstrip()


def _at(e: Evidence, at: float) -> str:
    return f"{at - e.story.began:.2f} s"
