"""The rows of the worker's table that tell the supervisor what runs here, should this process die."""

from __future__ import annotations

from fourlane.queues.broker import RedisBroker
from fourlane.worker.run.quietly import quietly
from fourlane.worker.run.run import Run
from fourlane.worker.table import Table

__all__ = ["Rows"]


class Rows:
    """One for each slot, and behind these one for each coroutine."""

    def __init__(self, broker: RedisBroker, table: Table | None, *, slots: int, concurrency: int) -> None:
        self.table = table
        self._broker = broker
        self._slots = slots
        self._free = list(range(slots, slots + concurrency))

    def take(self) -> int:
        """A coroutine's; -1 when jobs that went over from threads took the last ones."""
        try:
            return self._free.pop()
        except IndexError:
            return -1

    def begin(self, run: Run, row: int) -> None:
        """From now on the run is found there."""
        run.row = row
        if self.table is not None and row >= 0:
            hard = run.plan.hard_ms
            deadline = run.started + hard / 1000 if hard else 0.0
            self.table.begin(row, run.service.number, run.leased.entry.encode(), deadline)
            crashes = run.leased.crashes
            if crashes and crashes >= self._broker.store.crash_limit - 1:
                self.table.suspect(row)

    def move(self, run: Run, slot: int) -> None:
        """To a coroutine's row, before the slot begins its next job: one of the two always tells of this run."""
        self.begin(run, self.take())
        if self.table is not None:
            self.table.end(slot)

    def leave(self, run: Run) -> None:
        """A coroutine's row is free again."""
        row, run.row = run.row, -1
        if row >= self._slots:  # else it is of the thread that it came from
            if self.table is not None:
                quietly(self.table.end, row)
            self._free.append(row)
