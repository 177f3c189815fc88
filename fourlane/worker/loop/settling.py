"""Which ends of runs one turn settles."""

from __future__ import annotations

from typing import Final, NamedTuple

from fourlane.outcome import Dead, Done, Outcome, Result, Retry, Stepped
from fourlane.worker.loop.service import Service
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


def gather(service: Service) -> Settling:
    """Take what is to be settled from the service."""
    settling = Settling([], [], [], [])
    room = _Room(service.settles_at_most or _MOST_JOBS)
    if not service.uncertain or _gather_uncertain(service, settling, room):
        _gather_finished(service, settling, room)
    return settling


class _Room:
    """How much one turn settles."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.bytes = _MOST_BYTES

    def takes(self, outcome: Outcome, settling: Settling) -> bool:
        """It finds room, as the first one does whatever its size."""
        self.bytes -= _bytes_of(outcome)
        return self.bytes >= 0 or not settling.size


def _gather_uncertain(service: Service, settling: Settling, room: _Room) -> bool:
    """False when their bytes fill the turn."""
    now = service.take_uncertain(room.jobs)
    for place, (entry, outcome) in enumerate(now):
        if type(outcome) is Done:
            settling.done.append(entry)
        elif room.takes(outcome, settling):
            settling.others.append((entry, outcome))
        else:
            service.settle_first(now[place:])
            return False
    return True


def _gather_finished(service: Service, settling: Settling, room: _Room) -> None:
    done, others, ended, stale = settling
    finished, epoch = service.finished, service.epoch
    while finished and len(done) + len(others) < room.jobs:
        pair = run, outcome = finished.popleft()
        if run.epoch != epoch:
            stale.append(run)
            continue
        if run.steps_used:
            outcome = Stepped(outcome)
        if type(outcome) is Done:
            done.append(run.leased.entry)
        elif room.takes(outcome, settling):
            others.append((run.leased.entry, outcome))
        else:
            finished.appendleft(pair)
            break
        ended.append(pair)


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
