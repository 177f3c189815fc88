"""When a service wants a turn, though nothing finished and no job is known to wait; and for what."""

from __future__ import annotations

import math
from typing import Final

from fourlane.queues.beat import SILENCE_MS
from fourlane.queues.turn import Ask, Turn

__all__ = ["Agenda"]

_BUSY_LOOK_SECONDS: Final = SILENCE_MS / 2000  # after so long with leases it looks after the other workers
_BEAT_SECONDS: Final = 1.0


class Agenda:
    """The moments of one service, on the monotonic clock."""

    def __init__(self) -> None:
        self.look_at = 0.0
        self.due_at = math.inf
        """When the next delayed job is due."""
        self.room_at = math.inf
        """When a limit has room again."""
        self._busy_look_at = math.inf
        self._beat_by = math.inf  # it holds leases that no beat has told of yet
        self._beaten_at = 0.0
        self._beaten_idle = True  # the last beat gave the long silence of a worker that holds nothing
        self._watch_asked_at = 0.0

    def next_at(self) -> float:
        """The first of these moments."""
        return min(self.look_at, self.due_at, self.room_at, self._busy_look_at, self._beat_by)

    def time_has_come(self, now: float) -> bool:
        """A turn is due."""
        return self.looks(now) or self._beat_by <= now

    def looks(self, now: float) -> bool:
        """The turn keeps house."""
        return self.look_at <= now or self.due_at <= now or self._busy_look_at <= now

    def beats(self, now: float, *, leases: bool, busy: bool, looks: bool) -> bool:
        """The turn tells that this worker is alive."""
        old = now - self._beaten_at >= _BEAT_SECONDS
        if self._beat_by < math.inf and busy:
            return True
        return ((self._beaten_idle or old) and leases) or (old and (busy or looks))

    def wants_watch(self, now: float) -> bool:
        """Another worker is to be asked again to watch this one."""
        return now - self._watch_asked_at > SILENCE_MS / 1000

    # What happened

    def look_now(self) -> None:
        """It is to be looked at, as soon as possible."""
        self.look_at = 0.0

    def look_by(self, at: float) -> None:
        """Not later than this."""
        self.look_at = min(self.look_at, at)

    def look_next(self, at: float) -> None:
        """It was just looked at."""
        self.look_at = at

    def limits_looked_at(self) -> None:
        """The moment came at which a limit has room."""
        self.room_at = math.inf

    def block(self, until: float) -> None:
        """Nothing before then."""
        self.look_at = until
        self.due_at = self._beat_by = self.room_at = self._busy_look_at = math.inf

    def doubt_beat(self) -> None:
        """To Redis this worker may be gone: it tells of itself with the next lease."""
        self._beaten_at = 0.0

    def forget_watch(self) -> None:
        """Its word may be gone: it is given again with the next lease."""
        self._watch_asked_at = 0.0

    def leased_unbeaten(self, now: float, within_seconds: float) -> None:
        """A turn asked ahead leased, and its answer tells of no beat: one must follow, if the last is no good."""
        if self._beaten_idle or now - self._beaten_at >= _BEAT_SECONDS:
            self._beat_by = now + within_seconds

    def lose(self) -> None:
        """The leases were lost, and the name under which they were told of."""
        self._beaten_at = self._watch_asked_at = 0.0
        self._beaten_idle = True
        self._busy_look_at = math.inf
        self.look_now()

    def learn(self, turn: Turn, ask: Ask, *, holds: bool, now: float) -> None:
        """What a turn said of moments, and what it told of us."""
        if not ask.ahead:
            self._beat_by = math.inf
        if turn.beaten:
            self._beaten_at, self._beaten_idle, self._watch_asked_at = now, False, now
        if ask.beat:
            self._beaten_at, self._beaten_idle = now, not holds
        if ask.watch and holds:
            self._watch_asked_at = now
        if not holds:
            self._busy_look_at = math.inf
        elif ask.look or self._busy_look_at == math.inf:
            self._busy_look_at = now + _BUSY_LOOK_SECONDS
        if turn.due_in is not None:
            self.due_at = now + turn.due_in / 1000
        if turn.news:
            self.look_at = now
        self.room_at = min(self.room_at, now + turn.room_in / 1000)  # who did not try the limited tier tells of none
