"""What is known of a run, read from its folder into plain records that the checker judges."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec

from tests.chaos import ledger
from tests.chaos.ledger import Line
from tests.chaos.remains import Remains
from tests.chaos.runner import Story
from tests.chaos.site import Fault

__all__ = ["Died", "Evidence", "Run", "gather", "load"]

_DIED = re.compile(r"^(\S+ \S+?),(\d+) .* died process=\d+ pid=(\d+) (.*)$", re.M)


@dataclass
class Run:
    """One run of a job."""

    n: str
    id: str
    kind: str
    attempt: int
    pid: int
    parent: int
    began: float
    wall: float
    number: int = 0
    text: str = ""
    ended: float = 0.0
    end: str = ""
    """end, fail, given-back, cancelled, left (its lease was lost); empty when it never said so."""

    @property
    def kills(self) -> bool:
        """It ends its process."""
        return self.kind == "deadly"


@dataclass(frozen=True)
class Died:
    """A worker process that its supervisor saw die."""

    pid: int
    at: float
    how: str


@dataclass
class Evidence:
    """All that the checker looks at. Times are of the monotonic clock."""

    story: Story
    faults: list[Fault] = field(default_factory=list)
    remains: Remains = field(default_factory=Remains)
    died: list[Died] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    runs: dict[str, list[Run]] = field(default_factory=dict)
    """By job, the first first."""
    accepted: dict[str, Line] = field(default_factory=dict)
    meant: dict[str, Line] = field(default_factory=dict)
    refused: list[Line] = field(default_factory=list)
    cancels: dict[str, Line] = field(default_factory=dict)
    replays: dict[str, list[float]] = field(default_factory=dict)
    results: list[Line] = field(default_factory=list)

    @cached_property
    def deaths(self) -> dict[int, list[float]]:
        """When processes died, by their ids."""
        found: defaultdict[int, list[float]] = defaultdict(list)
        for fault in self.faults:
            for pid in fault.pids if fault.effect == "kill" else ():
                found[pid].append(fault.began)
        for died in self.died:
            found[died.pid].append(died.at)
        for run in (run for runs in self.runs.values() for run in runs if run.kills):
            found[run.pid].append(run.began)
        return found

    @cached_property
    def supervised_deaths(self) -> set[int]:
        """The worker processes that died while their supervisors lived."""
        killed = {pid for fault in self.faults if fault.effect == "kill" and fault.parents for pid in fault.pids}
        deadly = {run.pid for runs in self.runs.values() for run in runs if run.kills}
        return killed | deadly | {died.pid for died in self.died}


def load(folder: Path) -> Evidence:
    """Read a run's folder."""
    story = msgspec.json.decode((folder / "story.json").read_bytes(), type=Story)
    evidence = gather(story, ledger.read(folder / "ledger"))
    evidence.faults = msgspec.json.decode((folder / "faults.json").read_bytes(), type=list[Fault])
    evidence.remains = msgspec.json.decode((folder / "remains.json").read_bytes(), type=Remains)
    clocks = story.stopping_wall - story.stopping
    for path in sorted(folder.glob("log*")):
        text = path.read_text(errors="replace")
        for moment, millis, pid, how in _DIED.findall(text):
            wall = time.mktime(time.strptime(moment, "%Y-%m-%d %H:%M:%S")) + int(millis) / 1000
            evidence.died.append(Died(int(pid), wall - clocks, how))
        for error in _unplanned(text):
            evidence.tracebacks.append(f"{path.name}: {error}")
    return evidence


def gather(story: Story, lines: Iterable[Line]) -> Evidence:
    """Sort the lines of ledgers into runs and the rest."""
    made = Evidence(story)
    runs: defaultdict[str, list[Run]] = defaultdict(list)
    replays: defaultdict[str, list[float]] = defaultdict(list)
    for line in sorted(lines, key=lambda line: line.at):
        match line.what:
            case "start":
                runs[line.id].append(_run(line))
            case "end" | "fail" | "given-back" | "cancelled" | "left":
                run = next(r for r in reversed(runs[line.id]) if (r.pid, r.number) == (line.pid, line.run))
                run.ended, run.end = line.at, line.what
            case "meant":
                made.meant[line.n] = line
            case "accepted":
                made.accepted[line.id] = line
            case "refused":
                made.refused.append(line)
            case "cancel":
                made.cancels[line.id] = line
            case "replay":
                replays[line.id].append(line.at)
            case "result" | "no-result":
                made.results.append(line)
            case other:
                raise ValueError(f"a ledger says {other!r}")
    made.runs, made.replays = dict(runs), dict(replays)
    return made


def _run(start: Line) -> Run:
    return Run(
        n=start.n,
        id=start.id,
        kind=start.kind,
        attempt=start.attempt,
        pid=start.pid,
        parent=start.parent,
        began=start.at,
        wall=start.wall,
        number=start.run,
        text=start.text,
    )


def _unplanned(text: str) -> list[str]:
    """The errors that a log's tracebacks end with, but those that jobs raise as planned and are logged at their end."""
    errors = []
    for traceback in text.split("Traceback (most recent call last)")[1:]:
        lines = traceback.splitlines()[1:]
        error = next((line for line in lines if line and not line.startswith(" ")), "")
        if not error.startswith("tests.chaos.app.AsPlanned"):
            errors.append(error)
    return errors
