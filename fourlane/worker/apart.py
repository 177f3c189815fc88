"""Jobs that one more crash could make dead letters are tried apart, so that none is taken for another's fault.

A suspect is a job that ran when processes died, as often as makes poison but once. Several of them are halved: half
may begin together, for if the process dies again nobody is taken for guilty, and the next half is smaller. One that
is left over runs alone for a moment. Meanwhile the others have at least half of the time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from fourlane.outcome import Back, Postpone
from fourlane.queues.store import Leased
from fourlane.worker.executor import Executor
from fourlane.worker.lane import Lane

__all__ = ["Apart", "halved"]

_EMPTY_SECONDS: Final = 0.25  # so long this process is let run empty before one runs alone
_ALONE_SECONDS: Final = 0.5
_TRIAL_SECONDS: Final = 1.0
_REMEMBERED_SECONDS: Final = 3.0
_LATER_MS: Final = 1_000


def halved(suspects: int, *, one_half_lived: bool) -> int:
    """How many of these may begin together.

    Parameters:
      one_half_lived: others that came with them began a moment ago, and nothing happened.
    """
    return suspects if one_half_lived else max(1, suspects // 2)


class _Suspect(NamedTuple):
    lane: Lane
    leased: Leased
    since: float


class Apart:
    """Decides when suspects may begin in this process."""

    def __init__(self, executor: Executor, crash_limit: int, *, tries: bool = True) -> None:
        self.executor = executor
        self.tries = tries  # of a worker's processes one does; suspects that come to the others wait for it
        self.crash_limit = crash_limit
        self._suspect: _Suspect | None = None  # runs alone as soon as this process is empty
        self._alone_until = 0.0
        self._rest_until = 0.0  # the others' half of the time
        self._trial_until = 0.0
        self._room = 0  # how many more may begin in this trial
        self._lived_until = 0.0
        self._later: dict[str, float] = {}  # entries that wait in Redis for another trial, and since when

    def wants_room(self) -> bool:
        """True while nothing else may begin here."""
        return self._suspect is not None or (time.monotonic() < self._alone_until and not self._is_empty())

    def divide(self, lane: Lane, jobs: Sequence[Leased], now: float) -> list[Leased]:
        """What may begin now; suspects beyond that wait in this process for their moment, or in Redis."""
        begin = [leased for leased in jobs if not self._is_suspect(leased)]
        suspects = [leased for leased in jobs if self._is_suspect(leased)]
        if not suspects:
            return begin
        if not self.tries:
            for leased in suspects:
                lane.uncertain.append((leased.entry, Postpone(_LATER_MS)))
            return begin
        if now >= self._trial_until:
            self._begin_trial(suspects, now)
        begin += suspects[: self._room]
        rest = suspects[self._room :]
        self._room -= len(suspects) - len(rest)
        if rest and self._suspect is None and now >= max(self._rest_until, self._trial_until):
            self._suspect = _Suspect(lane, rest.pop(0), now)
        for leased in rest:
            self._later[leased.entry] = now
            lane.uncertain.append((leased.entry, Postpone(_LATER_MS)))
        return begin

    def _begin_trial(self, suspects: Sequence[Leased], now: float) -> None:
        """Count who is suspected, here and among those that wait, and say how many may begin together."""
        here = {leased.entry for leased in suspects}
        self._later = {
            entry: since
            for entry, since in self._later.items()
            if entry not in here and now - since < _REMEMBERED_SECONDS
        }
        together = halved(len(here) + len(self._later), one_half_lived=now < self._lived_until)
        self._room = together if together > 1 else 0
        if self._room:
            self._trial_until, self._lived_until = now + _TRIAL_SECONDS, now + _REMEMBERED_SECONDS

    def _is_suspect(self, leased: Leased) -> bool:
        return 0 < leased.crashes >= self.crash_limit - 1

    def start(self, now: float) -> bool:
        """Let the suspect run when its time has come. True when it does."""
        if self._suspect is None:
            return False
        lane, leased, since = self._suspect
        if self._is_empty() or now - since >= _EMPTY_SECONDS:
            self._suspect = None
            self._alone_until = now + _ALONE_SECONDS
            self._rest_until = self._alone_until + (self._alone_until - since)
            self.executor.start(lane, [leased])
            return True
        return False

    def changes_at(self, now: float) -> float | None:
        """The moment at which a suspect may start, or others may again."""
        if self._suspect is not None:
            return now if self._is_empty() else self._suspect.since + _EMPTY_SECONDS
        return self._alone_until if self._alone_until > now else None

    def held(self, lane: Lane) -> set[str]:
        """The entry that is kept of this service, if any."""
        return {self._suspect.leased.entry} if self._suspect is not None and self._suspect.lane is lane else set()

    def forget(self, lane: Lane) -> None:
        """The service's leases were lost."""
        if self.held(lane):
            self._suspect = None

    def give_back(self) -> None:
        """The worker stops."""
        if self._suspect is not None:
            self._suspect.lane.uncertain.append((self._suspect.leased.entry, Back()))
            self._suspect = None

    def _is_empty(self) -> bool:
        return not self.executor.running() and not self.executor.backlog.qsize()
