"""Jobs whose processes died are tried apart, so that none is taken for another's fault and the others go on.

A suspect is a job that ran when processes died, as often as makes poison but once; while processes die one after the
other, whoever ran in one of them. Suspects wait in the process that leased them until it may try
(worker/process/triers.py).
Of several, those with most crashes are halved: if the process dies, the half that began is suspected more, and the
next half is smaller; if it lives, the rest begins, and what lived is not blamed for what then happens. One that is left
is tried alone: for a moment nothing else begins, and no other suspect for as long as it may take to kill.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from fourlane.outcome import Back, Outcome, Postpone
from fourlane.queues.turn import Leased
from fourlane.worker.loop.service import Service
from fourlane.worker.run.executor import Executor
from fourlane.worker.table import Leave, Table

__all__ = ["Apart", "trial_seconds"]

_EMPTY_SECONDS: Final = 1.0  # so long jobs are let run before one runs alone beside them
_TAKES_SECONDS: Final = 0.02  # longer than a thread needs between taking a job and having it in its place
_ALONE_SECONDS: Final = 0.5
_CALM_SECONDS: Final = 16.0
_FIRST_TRIAL_SECONDS: Final = 1.0
_LONGEST_TRIAL_SECONDS: Final = 300.0
_PATIENCE_SECONDS: Final = 3.0  # then another process may have them
_LATER_MS: Final = 500
_LOOK_SECONDS: Final = 0.05
_UNSEEN_ESCAPES: Final = 4  # crashes that other workers may have seen, or that were no escapes


def trial_seconds(trials: int) -> float:
    """How long jobs must live to pass, after so many trials in which they did not: a killer may take its time."""
    return min(_LONGEST_TRIAL_SECONDS, _FIRST_TRIAL_SECONDS * 4.0 ** min(trials, 8))


class _Suspect(NamedTuple):
    service: Service
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
        since: float | None = None,
    ) -> None:
        self.executor = executor
        self.crash_limit = crash_limit
        self.table = table
        self._choose = choose
        self._since = time.monotonic() if since is None else since
        self._waiting: list[_Suspect] = []
        self._alone: _Suspect | None = None  # runs as soon as this process is empty
        self._full_at = 0.0  # the last look that found somebody beside it who may end in a moment
        self._alone_until = 0.0
        self._rest_until = 0.0  # the others' half of the time
        self._trial: set[str] = set()  # entries that began together
        self._most = 0  # crashes of these
        self._trial_since = self._trial_until = 0.0
        self._half_lived = False  # the rest of those that were halved begins next

    @property
    def has_suspects(self) -> bool:
        return bool(self._waiting or self._trial) or self._alone is not None

    def wants_room(self) -> bool:
        """True while nothing else may begin here."""
        return self._alone is not None or (time.monotonic() < self._alone_until and not self._is_empty())

    def divide(self, service: Service, jobs: Sequence[Leased], now: float) -> list[Leased]:
        """What may begin now; suspects wait here for their moment."""
        least = max(1, 1 if self._leave().wary else self.crash_limit - 1)
        begin = [leased for leased in jobs if leased.crashes < least]
        self._waiting += [_Suspect(service, leased, now) for leased in jobs if leased.crashes >= least]
        self._waiting.sort(key=_tier)
        return begin

    def start(self, now: float) -> bool:
        """Let suspects begin whose time has come, no more than find room. True when some did."""
        if self._alone is not None:
            return self._start_alone(now)
        self._let_go(now)
        tried = not self._trial or self._is_tried(now)
        if not tried or not self._waiting:
            return False
        leave = self._leave()
        first = [suspect for suspect in self._waiting if not self._is_suspect(suspect.leased)]
        if first:
            best = [suspect for suspect in first if _tier(suspect) == _tier(first[0])]
            return (leave.tries or not leave.wary) and self._begin(best)
        return leave.tries and now >= self._rest_until and self._try(now)

    def _try(self, now: float) -> bool:
        most = max(suspect.leased.crashes for suspect in self._waiting)
        group = [suspect for suspect in self._waiting if suspect.leased.crashes == most]
        together = len(self._waiting) if self._half_lived else len(group) // 2
        if together <= 1 and not self._half_lived:
            return self._is_calm(most, now) and self._clear_for(self._choose(group, 1)[0], now)
        some = self._fitting(self._waiting if self._half_lived else self._choose(group, together))
        if not some:
            return False
        self._half_lived = not self._half_lived
        self._put_on_trial(some, most, now)
        return self._begin(some)

    def _is_calm(self, crashes: int, now: float) -> bool:
        """Whether those that are no suspects could have shown by now what they do, so that one can be told from them.

        While these end the process no trial could tell of anything, and a job that is tried would not get far.
        """
        quiet = all(self._is_suspect(run.leased) for run in self.executor.running())
        patience = 0.0 if crashes < self.crash_limit else min(_CALM_SECONDS, trial_seconds(self._leave().escapes))
        return quiet or now - self._since >= patience

    def _clear_for(self, suspect: _Suspect, now: float) -> bool:
        self._waiting.remove(suspect)
        self._alone = suspect._replace(since=now)
        self._full_at = now
        return self._start_alone(now)

    def _seconds_for(self, crashes: int) -> float:
        return trial_seconds(max(self._leave().escapes, crashes - self.crash_limit - _UNSEEN_ESCAPES))

    def _is_suspect(self, leased: Leased) -> bool:
        return leased.crashes >= self.crash_limit - 1

    def _is_tried(self, now: float) -> bool:
        """Whether those on trial lived long enough, or have all ended."""
        runs = any(run.leased.entry in self._trial for run in self.executor.in_hand())
        being_taken = now - self._trial_since < _TAKES_SECONDS or self.executor.backlog.qsize()
        if now < self._trial_until and (runs or being_taken):
            return False
        if self._trial:
            self._publish_trial(False)
        self._trial.clear()
        self._half_lived = self._half_lived and bool(self._waiting)
        return True

    def _publish_trial(self, begins: bool) -> None:
        """Suspects that run now have passed theirs."""
        if self.table is not None:
            for run in self.executor.running():
                if run.row >= 0 and self._is_suspect(run.leased):
                    self.table.passes(run.row)
            self.table.publish_trial(begins)

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
            self.executor.start(suspect.service, [suspect.leased])
        return bool(suspects)

    def _start_alone(self, now: float) -> bool:
        assert self._alone is not None
        service, leased, since = self._alone
        if self.executor.backlog.qsize() or any(now - run.started < _EMPTY_SECONDS for run in self.executor.in_hand()):
            self._full_at = now
        if now - self._full_at < _TAKES_SECONDS and now - since < _EMPTY_SECONDS:
            return False
        self._alone_until = now + _ALONE_SECONDS
        self._rest_until = self._alone_until + (self._alone_until - since)
        self._put_on_trial([self._alone], leased.crashes, now)
        self._alone = None
        self.executor.start(service, [leased])
        return True

    def _put_on_trial(self, suspects: Sequence[_Suspect], crashes: int, now: float) -> None:
        self._publish_trial(True)
        self._trial = {suspect.leased.entry for suspect in suspects}
        self._most = crashes
        self._trial_since = now
        self._trial_until = now + self._seconds_for(crashes)

    def changes_at(self, now: float) -> float | None:
        """The moment at which a suspect may begin, or others may again."""
        if self._alone is not None:
            return now + _TAKES_SECONDS
        if self._waiting or self._trial:
            return now + _LOOK_SECONDS
        return self._alone_until if self._alone_until > now else None

    def held(self, service: Service) -> set[str]:
        """The entries that are kept of this service."""
        return {suspect.leased.entry for suspect in self._kept() if suspect.service is service}

    def forget(self, service: Service, but: AbstractSet[str] = frozenset()) -> None:
        """The service's leases were lost, ``but`` these."""
        self._drop([s for s in self._kept() if s.service is service and s.leased.entry not in but])

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
            suspect.service.settle(suspect.leased.entry, outcome)

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
