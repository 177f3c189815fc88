"""A job of a task with a share gets one of its places, waits a moment for one, or is crowded out: it comes again.

Threads wait in place, coroutines in the gate's line, on the event loop.
"""

from __future__ import annotations

import time
from typing import Protocol

from fourlane.outcome import Back, Outcome, Postpone
from fourlane.worker.run.begin import Halt
from fourlane.worker.run.finish import Owner
from fourlane.worker.run.gate import PATIENCE_SECONDS, Gate
from fourlane.worker.run.run import Run

__all__ = ["Admission", "OnLoop"]


class OnLoop(Protocol):
    """Where coroutines run. Called on the event loop."""

    def call_later(self, seconds: float, admission: Admission, gate: Gate) -> None:
        """Call ``end_waits`` then."""

    def launch(self, run: Run) -> None: ...
    def dismiss(self, run: Run, outcome: Outcome) -> None:
        """It does not begin here."""


class Admission:
    """The gates of one process, which are in its plans."""

    def __init__(self, owner: Owner, halt: Halt, slots: int) -> None:
        self.at_gate: list[Run | None] = [None] * slots
        """By slot: runs that wait for a place."""
        self.crowded_at = 0.0
        """When a job last found no place of its task's share."""
        self._owner = owner
        self._halt = halt

    def enter(self, gate: Gate, slot: int, run: Run) -> bool:
        """In a thread. False when no place is free in a moment; the job has its outcome then."""
        self.at_gate[slot] = run
        run.gated = gate.enter(patient=True)
        if not run.gated:
            self._owner.finished(run, Back() if self._halt.stops else self._crowd_out(gate, run))
        self.at_gate[slot] = None
        return run.gated

    def admit(self, gate: Gate, run: Run, where: OnLoop) -> bool:
        """On the event loop. False when it waits in line, or was dismissed."""
        run.gated = gate.enter(patient=False)
        if run.gated:
            return True
        if not gate.let_wait(run):
            where.dismiss(run, self._crowd_out(gate, run))
        elif len(gate.waiting) == 1:
            where.call_later(PATIENCE_SECONDS, self, gate)
        return False

    def let_in(self, gate: Gate, where: OnLoop) -> None:
        """A place is free, and coroutines wait."""
        while gate.waiting and gate.enter(patient=False):
            _, run = gate.waiting.popleft()
            run.gated = True
            where.launch(run)

    def end_waits(self, gate: Gate, where: OnLoop) -> None:
        """Those that have waited for long enough are crowded out."""
        now = time.monotonic()
        while gate.waiting and gate.waiting[0][0] <= now:
            run = gate.waiting.popleft()[1]
            where.dismiss(run, self._crowd_out(gate, run))
        if gate.waiting:
            where.call_later(max(0.001, gate.waiting[0][0] - now), self, gate)

    def _crowd_out(self, gate: Gate, run: Run) -> Postpone:
        self.crowded_at = time.monotonic()
        run.service.tiers.crowd(run.leased.entry[0], self.crowded_at)
        return Postpone(gate.pause_ms(self.crowded_at))
