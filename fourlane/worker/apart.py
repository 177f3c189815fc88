"""Jobs whose processes died are tried apart, so that none is taken for another's fault and the others go on.

A suspect is a job that ran when processes died, as often as makes poison but once; while processes die one after the
other, whoever ran in one of them. Suspects wait in the process that leased them until it may try (worker/triers.py).
Of several, those with most crashes are halved: if the process dies, the half that began is suspected more, and the
next half is smaller; if it lives, the rest begins, and what lived is not blamed for what then happens. One that is left
runs alone for a moment.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from fourlane.outcome import Back, Outcome, Postpone
from fourlane.queues.store import Leased
from fourlane.worker.executor import Executor
from fourlane.worker.lane import Lane
from fourlane.worker.table import Leave, Table

__all__ = ["Apart", "trial_seconds"]

_EMPTY_SECONDS: Final = 0.25  # so long this process is let run empty before one runs alone
_ALONE_SECONDS: Final = 0.5
_FIRST_TRIAL_SECONDS: Final = 1.0
_LONGEST_TRIAL_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 3.0  # then another process may have them
_LATER_MS: Final = 500
_LOOK_SECONDS: Final = 0.05


def trial_seconds(trials: int) -> float:
    """How long jobs must live to pass, after so many trials in which they did not: a killer may take its time."""
    return min(_LONGEST_TRIAL_SECONDS, _FIRST_TRIAL_SECONDS * 4.0 ** min(trials, 8))


class _Suspect(NamedTuple):
    lane: Lane
    leased: Leased
    since: float


class Apart:
    """Keeps the suspects that this process leased, and decides when they begin."""

    def __init__(
        self,
        executor: Executor,
        crash_limit: int,
        *,
        table: Table | None = None,
        choose: Callable[[Sequence[_Suspect], int], Sequence[_Suspect]] = random.sample,
    ) -> None:
        self.executor = executor
        self.crash_limit = crash_limit
        self.table = table
        self._choose = choose
        self._waiting: list[_Suspect] = []
        self._alone: _Suspect | None = None  # runs as soon as this process is empty
        self._alone_until = 0.0
        self._rest_until = 0.0  # the others' half of the time
        self._trial: set[str] = set()  # entries that began together
        self._most = 0  # crashes of these
        self._trial_until = 0.0
        self._half_lived = False  # the rest of those that were halved begins next

    @property
    def has_suspects(self) -> bool:
        return bool(self._waiting or self._trial) or self._alone is not None

    def wants_room(self) -> bool:
        """True while nothing else may begin here."""
        return self._alone is not None or (time.monotonic() < self._alone_until and not self._is_empty())

    def divide(self, lane: Lane, jobs: Sequence[Leased], now: float) -> list[Leased]:
        """What may begin now; suspects wait here for their moment."""
        least = 1 if self._leave().wary else self.crash_limit - 1
        begin = [leased for leased in jobs if not 0 < leased.crashes >= least]
        self._waiting += [_Suspect(lane, leased, now) for leased in jobs if 0 < leased.crashes >= least]
        self._waiting.sort(key=_tier)
        return begin

    def start(self, now: float) -> bool:
        """Let suspects begin whose time has come, no more than find room. True when some did."""
        if self._alone is not None:
            return self._start_alone(now)
        tried = not self._trial or self._is_tried(now)
        self._let_go(now)
        if not tried or not self._waiting:
            return False
        leave = self._leave()
        first = [suspect for suspect in self._waiting if suspect.leased.crashes < self.crash_limit - 1]
        if first:
            best = [suspect for suspect in first if _tier(suspect) == _tier(first[0])]
            return (leave.tries or not leave.wary) and self._begin(best)
        return leave.tries and now >= self._rest_until and self._try(now)

    def _try(self, now: float) -> bool:
        most = max(suspect.leased.crashes for suspect in self._waiting)
        group = [suspect for suspect in self._waiting if suspect.leased.crashes == most]
        together = len(self._waiting) if self._half_lived else len(group) // 2
        if together <= 1 and not self._half_lived:
            self._alone = group[0]._replace(since=now)
            self._waiting.remove(group[0])
            return self._start_alone(now)
        some = self._fitting(self._waiting if self._half_lived else self._choose(group, together))
        if not some:
            return False
        self._put_on_trial()
        self._half_lived = not self._half_lived
        self._trial = {suspect.leased.entry for suspect in some}
        self._most = most
        self._trial_until = now + trial_seconds(most - self.crash_limit + 1)
        return self._begin(some)

    def _is_tried(self, now: float) -> bool:
        """Whether those on trial lived long enough, or have all ended."""
        runs = [run for run in self.executor.in_hand() if run.leased.entry in self._trial]
        if now < self._trial_until and (runs or self.executor.backlog.qsize()):
            return False
        self._trial.clear()
        if self.table is not None:
            self.table.publish_trial(False)
        self._half_lived = self._half_lived and bool(self._waiting)
        return True

    def _put_on_trial(self) -> None:
        """What begins next. Whoever runs already lived until now, and is not blamed for what then happens."""
        if self.table is not None:
            for run in self.executor.running():
                if run.row >= 0:
                    self.table.acquit(run.row)
            self.table.publish_trial(True)

    def _fitting(self, suspects: Sequence[_Suspect]) -> list[_Suspect]:
        """Those that find room."""
        threads, places = self.executor.free()
        threads -= self.executor.backlog.qsize()
        fitting: list[_Suspect] = []
        for suspect in suspects:
            is_async = self.executor.is_async(suspect.leased)
            if (places if is_async else threads) > 0:
                fitting.append(suspect)
                places, threads = places - is_async, threads - (not is_async)
        return fitting

    def _begin(self, suspects: Sequence[_Suspect]) -> bool:
        suspects = self._fitting(suspects)
        begun = {suspect.leased.entry for suspect in suspects}
        self._waiting = [suspect for suspect in self._waiting if suspect.leased.entry not in begun]
        for suspect in suspects:
            self.executor.start(suspect.lane, [suspect.leased])
        return bool(suspects)

    def _start_alone(self, now: float) -> bool:
        assert self._alone is not None
        lane, leased, since = self._alone
        if self._is_empty() or now - since >= _EMPTY_SECONDS:
            self._alone = None
            self._alone_until = now + _ALONE_SECONDS
            self._rest_until = self._alone_until + (self._alone_until - since)
            self._put_on_trial()
            self._trial = {leased.entry}
            self._most = leased.crashes
            self._trial_until = self._alone_until
            self.executor.start(lane, [leased])
            return True
        return False

    def changes_at(self, now: float) -> float | None:
        """The moment at which a suspect may begin, or others may again."""
        if self._alone is not None:
            return now if self._is_empty() else self._alone.since + _EMPTY_SECONDS
        if self._waiting or self._trial:
            return now + _LOOK_SECONDS
        return self._alone_until if self._alone_until > now else None

    def held(self, lane: Lane) -> set[str]:
        """The entries that are kept of this service."""
        return {suspect.leased.entry for suspect in self._kept() if suspect.lane is lane}

    def forget(self, lane: Lane, but: AbstractSet[str] = frozenset()) -> None:
        """The service's leases were lost, ``but`` these."""
        self._drop([s for s in self._kept() if s.lane is lane and s.leased.entry not in but])

    def cancel(self, job_ids: AbstractSet[str]) -> None:
        """These were cancelled: the turn that takes them back knows it."""
        self._hand_back([s for s in self._kept() if s.leased.entry.partition("|")[0] in job_ids], Back())

    def give_back(self) -> None:
        """The worker stops."""
        self._hand_back(self._kept(), Back())

    def _let_go(self, now: float) -> None:
        """Another process may have room for them. The rest of those that were halved is tried here."""
        stays = self._most if self._trial or self._half_lived else 0
        late = [s for s in self._waiting if now - s.since >= _PATIENCE_SECONDS and s.leased.crashes != stays]
        self._hand_back(late, Postpone(_LATER_MS))

    def _hand_back(self, suspects: Sequence[_Suspect], outcome: Outcome) -> None:
        self._drop(suspects)
        for suspect in suspects:
            suspect.lane.uncertain.append((suspect.leased.entry, outcome))

    def _drop(self, suspects: Sequence[_Suspect]) -> None:
        if self._alone in suspects:
            self._alone = None
        if suspects:
            gone = {id(suspect) for suspect in suspects}
            self._waiting = [suspect for suspect in self._waiting if id(suspect) not in gone]

    def _kept(self) -> list[_Suspect]:
        return self._waiting if self._alone is None else [self._alone, *self._waiting]

    def _leave(self) -> Leave:
        return Leave() if self.table is None else self.table.leave()

    def _is_empty(self) -> bool:
        return not self.executor.running() and not self.executor.backlog.qsize()


def _tier(suspect: _Suspect) -> str:
    return suspect.leased.entry[0]
