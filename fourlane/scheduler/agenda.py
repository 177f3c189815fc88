"""What a scheduler knows of one service: what is prepared there, and when to act."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from fourlane.queues.schedules import Due, Fire, Schedule

__all__ = ["AHEAD_MS", "LOOK_SECONDS", "Agenda"]

AHEAD_MS: Final = 1_000
"""Jobs are prepared this long before their time."""
LOOK_SECONDS: Final = 600.0
"""Between two looks at a service where nothing is due."""
_PATIENCE_SECONDS: Final = 0.3  # who does not lead lets the leader be first
_BATCH: Final = 250


@dataclass(slots=True)
class Agenda:
    """Moments are this process's monotonic clock, but for those in milliseconds, which are Redis's.

    Parameters:
      look_at: when to ask Redis again, unless something is prepared.
      until_ms: all that is due before it is prepared.
      due_at: when Redis said that something is due.
      follows: another scheduler leads here.
      waiting: requests that are prepared, in the order of their moments.
      schedules: those that the requests are of.
      told_ms, told_at: Redis's clock when it was asked the last time.
    """

    look_at: float = 0.0
    until_ms: int = 0
    due_at: float = math.inf
    follows: bool = False
    waiting: list[Fire] = field(default_factory=list)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    told_ms: int = 0
    told_at: float = 0.0

    def now_ms(self) -> float:
        """Redis's time."""
        return self.told_ms + (time.monotonic() - self.told_at) * 1000

    def act_at(self) -> float:
        """When something is to be done here."""
        if self.waiting:
            return self.told_at + (self.waiting[0].not_before_ms - self.told_ms) / 1000
        return self.look_at

    def look_now(self) -> None:
        """What is prepared may be void."""
        self.waiting, self.look_at = [], 0.0

    def told(self, now_ms: int, asked_at: float) -> None:
        """Set the clock by an answer of Redis."""
        self.told_ms, self.told_at = now_ms, asked_at

    def learn(self, due: Due, asked_at: float) -> None:
        """Take in what Redis says is due; decides when to look again."""
        self.told(due.now_ms, asked_at)
        if due.word == "due":
            self.follows, self.due_at, self.look_at = False, math.inf, asked_at
            self.until_ms = due.now_ms + AHEAD_MS
            self.schedules = {schedule.name: schedule for schedule, _, _ in due.found}
        elif due.word == "busy":
            self.follows = True
            self.look_at = asked_at + due.wait_ms / 1000
        else:
            self.follows = self.follows or asked_at >= self.due_at  # another one did what was due
            self.look_at, self.due_at = asked_at + LOOK_SECONDS, math.inf
            if due.wait_ms >= 0:
                self.due_at = asked_at + due.wait_ms / 1000
                ahead = -_PATIENCE_SECONDS if self.follows else AHEAD_MS / 1000
                self.look_at = min(self.look_at, max(asked_at, self.due_at - ahead))

    def wait_for(self, fires: Iterable[Fire]) -> None:
        """These are to be sent at their moments."""
        self.waiting = sorted(fires, key=lambda fire: fire.not_before_ms)

    def take(self) -> tuple[list[Fire], list[Fire]]:
        """A batch of what has come to its moment, and the rest. Both are gone from here then: should the reply to the
        batch be lost, Redis tells what is left to do."""
        now_ms, number = self.now_ms(), 0
        while number < min(_BATCH, len(self.waiting)) and self.waiting[number].not_before_ms <= now_ms:
            number += 1
        taken, rest = self.waiting[:number], self.waiting[number:]
        if taken:
            self.waiting = []
        return taken, rest
