"""What was found, beside what is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = ["Expected", "Result", "judge", "reason_for", "table"]

Expected = Mapping[str, Mapping[str, str]]
"""Reasons by the pattern of a name (``test_redis::*``), for each worker."""


@dataclass(frozen=True, slots=True)
class Result:
    """One test or check, with one worker.

    Parameters:
      name: ``test_actors::test_name[parameters]``, or ``with_flask: what was checked``.
      state: ``ok``, ``no`` or ``skipped``.
      detail: why it failed, in a line.
    """

    worker: str
    name: str
    state: str
    detail: str = ""

    @property
    def group(self) -> str:
        return self.name.split("::")[0].split(": ")[0]


def reason_for(result: Result, expected: Expected) -> str:
    """Why it is meant to fail; empty when it is not."""
    name = result.name.replace("[", "(").replace("]", ")")  # brackets mean something in patterns
    matches = [
        (pattern, reason)
        for pattern, reason in expected.get(result.worker, {}).items()
        if fnmatchcase(name, pattern.replace("[", "(").replace("]", ")"))
    ]
    return matches[0][1] if matches else ""


def judge(found: Sequence[Result], expected: Expected) -> list[str]:
    """A line for each surprise: what fails without being listed, and what is listed and passes."""
    lines = []
    for result in found:
        reason = reason_for(result, expected)
        if result.state == "no" and not reason:
            lines.append(f"FAILS  {result.worker}  {result.name}\n       {result.detail}")
        elif result.state == "ok" and reason:
            lines.append(f"PASSES {result.worker}  {result.name}\n       listed as: {reason}")
    return lines


def table(found: Sequence[Result], expected: Expected) -> str:
    """Counts of each group by worker: passed, differs as listed, failed, skipped."""
    workers = list(dict.fromkeys(result.worker for result in found))
    lines = [
        f"{'':32}" + "".join(f"  {worker + chr(39) + 's worker':>22}" for worker in workers),
        f"{'':32}" + "  passed differ fail skip" * len(workers),
    ]
    groups = list(dict.fromkeys(result.group for result in found))
    for group in [*groups, "in all"]:
        line = f"{group:32.32}"
        for worker in workers:
            mine = [r for r in found if r.worker == worker and group in (r.group, "in all")]
            differ = sum(r.state == "no" and bool(reason_for(r, expected)) for r in mine)
            failed = sum(r.state == "no" for r in mine) - differ
            passed, skipped = (sum(r.state == state for r in mine) for state in ("ok", "skipped"))
            line += f"  {passed:6} {differ:6} {failed:4} {skipped:4}"
        lines.append(line.rstrip())
    return "\n".join(lines)
