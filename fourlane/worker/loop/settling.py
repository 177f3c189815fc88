"""Which ends of runs one turn settles."""

from __future__ import annotations

from typing import Final, NamedTuple

from fourlane.outcome import Dead, Done, Outcome, Result, Retry, Stepped
from fourlane.worker.loop.lane import Lane
from fourlane.worker.run.run import Run

__all__ = ["Settling", "gather"]

_MOST_JOBS: Final = 1_000
_MOST_BYTES: Final = 4_000_000  # hosted servers refuse requests over 10 MB


class Settling(NamedTuple):
    """What a turn settles: plainly done, and otherwise; and what it is too late for."""

    done: list[str]
    others: list[tuple[str, Outcome]]
    ended: list[tuple[Run, Outcome]]
    """The runs among these that end with this turn, not with an earlier one that failed."""
    stale: list[Run]

    @property
    def size(self) -> int:
        return len(self.done) + len(self.others)

    def again(self) -> list[tuple[str, Outcome]]:
        """All of it, to be settled another time."""
        return [(entry, Done()) for entry in self.done] + self.others


def gather(lane: Lane) -> Settling:
    """Take what is to be settled from the lane."""
    settling = Settling([], [], [], [])
    done, others, ended, stale = settling
    most = lane.most_settled or _MOST_JOBS
    weight = 0
    if lane.uncertain:
        now, lane.uncertain = lane.uncertain[:most], lane.uncertain[most:]
        for place, (entry, outcome) in enumerate(now):
            if type(outcome) is Done:
                done.append(entry)
                continue
            weight += _bytes_of(outcome)
            if weight > _MOST_BYTES and settling.size:
                lane.uncertain = now[place:] + lane.uncertain
                return settling
            others.append((entry, outcome))
    finished, epoch = lane.finished, lane.epoch
    while finished and len(done) + len(others) < most:
        pair = run, outcome = finished.popleft()
        if run.epoch != epoch:
            stale.append(run)
            continue
        if run.steps_used:
            outcome = Stepped(outcome)
        if type(outcome) is Done:
            done.append(run.leased.entry)
        else:
            weight += _bytes_of(outcome)
            if weight > _MOST_BYTES and settling.size:
                finished.appendleft(pair)
                break
            others.append((run.leased.entry, outcome))
        ended.append(pair)
    return settling


def _bytes_of(outcome: Outcome) -> int:
    match outcome:
        case Result(value, _):
            return len(value)
        case Retry(_, record, _):
            return len(record)
        case Dead(_, detail, record, value, _):
            return len(detail) + len(record) + len(value)
        case Stepped(plain):
            return _bytes_of(plain)
    return 0
