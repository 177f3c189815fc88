"""How many jobs a worker leases, and when: enough that no slot idles, no more than it will begin at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from fourlane.worker.run.executor import Executor
from fourlane.worker.run.run import Run

__all__ = ["Appetite"]

_BACKLOG_SECONDS: Final = 0.010  # how much work may lie ready in this process, by the speed measured
_MOST_LEASES: Final = 512
_MEASURE_SECONDS: Final = 0.05
_LONGEST_STEP_SECONDS: Final = 0.020
_CROWDED_SECONDS: Final = 0.05
_SETTLE_WITHIN_SECONDS: Final = 0.005


class Appetite:
    """Leases by the speed of the jobs.

    Short jobs are leased ahead, as many as will have begun in some milliseconds. Of longer ones no more than there
    are free slots, and while others wait the slots are kept out of step: eight that begin together end together,
    and an urgent job that comes in between waits for all of them. One by one, a slot is free every eighth of a run.
    """

    def __init__(self, executor: Executor, pauses: Callable[[], bool] = lambda: False) -> None:
        """
        Parameters:
          pauses: while it says so nothing is leased, whatever the room.
        """
        self.executor = executor
        self._pauses = pauses
        self.finished_jobs = 0
        self._speed = 0.0
        self._speed_mark = (time.monotonic(), 0)
        self._run_seconds = 0.0
        self._async_share = 0.0
        self._more_waits = False
        self._next_lease = 0.0

    def measure(self, now: float) -> None:
        """Jobs per second. A fall counts at once, a rise by half."""
        since, count = self._speed_mark
        if now - since >= _MEASURE_SECONDS:
            speed = (self.finished_jobs - count) / (now - since)
            self._speed = speed if speed < self._speed else (self._speed + speed) / 2
            self._speed_mark = (now, self.finished_jobs)

    def forget_speed(self) -> None:
        """What was leased ahead was not begun: the speed measured is no longer true."""
        self._speed = 0.0
        self._speed_mark = (time.monotonic(), self.finished_jobs)

    def ran(self, run: Run, now: float) -> None:
        """Learn from one run, the last that finished before a turn."""
        if run.plan.is_async or run.on_loop:
            self._run_seconds = 0.0  # it held no slot: there is nothing to keep out of step
        elif run.started:
            self._run_seconds += ((run.ended_at or now) - run.started - self._run_seconds) / 4

    def started(self, jobs: int, coroutines: int) -> None:
        """Learn how many of the jobs that come are ``async def``, which take no slot."""
        self._async_share += (coroutines / jobs - self._async_share) / 2

    def leased(self, want: int, jobs: int, more: bool, now: float) -> None:
        """Learn from a turn that asked for jobs: how many came, and does Redis have more?"""
        self._more_waits = more
        if want == 1 and jobs:
            step = 0.8 * self._run_seconds / max(1, self.executor.slots)
            self._next_lease = now + min(step, _LONGEST_STEP_SECONDS)

    def want(self, now: float) -> int:
        """How many jobs to lease now."""
        if self._pauses():
            return 0
        room = self._room()
        if room > 1 and self._keeps_step(now):
            return 1 if now >= self._next_lease else 0
        return room

    def step_at(self, now: float) -> float | None:
        """The moment to lease the next one, when slots are free and only kept out of step."""
        waits = now < self._next_lease and self._keeps_step(now) and self._room() > 1
        return self._next_lease if waits else None

    def leases_in_a_moment(self, now: float) -> bool:
        """What is to be settled goes with the next lease: one turn for both."""
        step_at = self.step_at(now)
        return step_at is not None and step_at - now <= _SETTLE_WITHIN_SECONDS

    def slot_soon(self) -> bool:
        """Is a slot free, or likely to be in a moment?"""
        return self._room() > 0 or self._run_seconds / max(1, self.executor.slots) <= _LONGEST_STEP_SECONDS

    def _keeps_step(self, now: float) -> bool:
        if now - self.executor.crowded_at < _CROWDED_SECONDS:
            return False  # of many that are leased few may run
        return self._more_waits and self._run_seconds >= _BACKLOG_SECONDS and self.executor.running_threads() > 0

    def _room(self) -> int:
        executor = self.executor
        waiting = executor.backlog.qsize()
        threads, places = executor.free()
        ahead = min(_MOST_LEASES, int(self._speed * _BACKLOG_SECONDS))
        if not executor.threads:
            return min(places, _MOST_LEASES)
        busy = executor.slots - threads
        room = max(threads, ahead - busy) - waiting
        if not executor.has_async:
            return room
        # So many that the plain ones among them find room, if they come as they did.
        return min(int(room / max(0.01, 1 - self._async_share)), places, _MOST_LEASES)
