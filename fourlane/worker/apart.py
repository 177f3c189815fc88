"""A job that one more crash makes a dead letter runs alone for a while: nothing else shall be counted with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from fourlane.outcome import Back
from fourlane.queues.store import Leased
from fourlane.worker.executor import Executor
from fourlane.worker.lane import Lane

__all__ = ["Apart"]

_ALONE_SECONDS: Final = 1.0


class Apart:
    """Holds one suspect until this process is empty, or for a second; then it runs, alone for a second."""

    def __init__(self, executor: Executor, crash_limit: int) -> None:
        self.executor = executor
        self.crash_limit = crash_limit
        self._suspect: tuple[Lane, Leased, float] | None = None
        self._alone_until = 0.0

    def wants_room(self) -> bool:
        """True while nothing else may begin here."""
        return self._suspect is not None or (time.monotonic() < self._alone_until and not self._is_empty())

    def divide(self, lane: Lane, jobs: Sequence[Leased], now: float) -> list[Leased]:
        """Keep one suspect for later, give the others back, return the rest."""
        rest = []
        for leased in jobs:
            if leased.crashes == 0 or leased.crashes < self.crash_limit - 1:
                rest.append(leased)
            elif self._suspect is None:
                self._suspect = (lane, leased, now)
            else:
                lane.uncertain.append((leased.entry, Back()))
        return rest

    def start(self, now: float) -> None:
        """Let the suspect run when its time has come."""
        if self._suspect is None:
            return
        lane, leased, since = self._suspect
        if self._is_empty() or now - since >= _ALONE_SECONDS:
            self._suspect = None
            self._alone_until = now + _ALONE_SECONDS
            self.executor.start(lane, [leased])

    def changes_at(self, now: float) -> float | None:
        """The moment at which a suspect may start, or others may again."""
        if self._suspect is not None:
            return now if self._is_empty() else self._suspect[2] + _ALONE_SECONDS
        return self._alone_until if self._alone_until > now else None

    def held(self, lane: Lane) -> set[str]:
        """The entry that is kept of this service, if any."""
        return {self._suspect[1].entry} if self._suspect is not None and self._suspect[0] is lane else set()

    def forget(self, lane: Lane) -> None:
        """The service's leases were lost."""
        if self.held(lane):
            self._suspect = None

    def give_back(self) -> None:
        """The worker stops."""
        if self._suspect is not None:
            lane, leased, _ = self._suspect
            lane.uncertain.append((leased.entry, Back()))
            self._suspect = None

    def _is_empty(self) -> bool:
        return not self.executor.running() and not self.executor.backlog.qsize()
