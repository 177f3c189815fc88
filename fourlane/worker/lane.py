"""What a worker knows of one service between two turns, what it asks in the next one, and what it learns from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from fourlane.outcome import Done, Outcome, Result, Stepped
from fourlane.queues.connection import Link
from fourlane.queues.pulse import SILENCE_MS
from fourlane.queues.store import Turn
from fourlane.worker.run import Run

__all__ = ["Lane"]

_FIRST_SHARE: Final = 10  # a tier past its target gets one lease in so many


class Lane:
    """One service in a worker's loop."""

    def __init__(self, service: str, number: int, tiers: str, name: str) -> None:
        self.service = service
        self.number = number
        self.tiers = tiers
        self.base_name = name
        self.epoch = 0
        self.finished: deque[tuple[Run, Outcome]] = deque()
        self.held = 0
        self.maybe = set(tiers)
        self.due_at: float | None = None
        self.room_at: float | None = None
        self.look_at = 0.0
        self.beaten_at = 0.0
        self.beaten_idle = True  # the last beat gave the long silence of a worker that holds nothing
        self.told = False  # another worker watches this one since it holds leases
        self.told_at = 0.0
        self.others = False
        self.from_token = False
        self.controlled = False
        self.starving = ""
        self.owed = 0
        self.shares = 0
        self.link: Link | None = None
        self.waiter: Link | None = None
        self.waits = False
        self.waits_until = 0.0  # by then Redis must have answered
        self.asked_ahead: tuple[Lane, int, str] | None = None  # whose turn follows the wait; how many, of which tier
        self.beat_by: float | None = None  # it holds leases that no beat has told of yet
        self.done: dict[str, int] = {}  # jobs done since the last look, by tier
        self.uncertain: list[tuple[str, Outcome]] = []
        self.blocked_until = 0.0
        self.out_of_step = False  # a turn failed: what Redis says we hold may not be what we know

    @property
    def name(self) -> str:
        """The lease name; a new one after the leases were lost, so that late runs cannot pass for new ones."""
        return f"{self.base_name}.{self.epoch}"

    # When -----------------------------------------------------------------------------------------------------

    def time_has_come(self, now: float) -> bool:
        """A turn is due, though nothing finished and no job is known to wait."""
        moments = (self.look_at, self.due_at, self.beat_by)
        return any(moment is not None and moment <= now for moment in moments)

    def next_moment(self, now: float) -> float:
        """When it must be attended to at the latest."""
        if self.blocked_until > now:
            return max(self.look_at, self.blocked_until)
        moments = (self.look_at, self.due_at, self.beat_by, self.room_at)
        return min(moment for moment in moments if moment is not None)

    # The next turn --------------------------------------------------------------------------------------------

    def flags(self, now: float, want: int, busy: bool) -> tuple[str, str]:
        """What to ask besides, and which tier first (queues/lua/turn.lua).

        A lone job's settling asks nothing: whatever came meanwhile has left a token.
        """
        flags, first = "", ""
        look = self.look_at <= now or (self.due_at is not None and self.due_at <= now)
        if look:
            flags += "k"
            if self.held:
                flags += "s"
        if busy:
            flags += "n"
        due = self.beaten_idle or now - self.beaten_at >= 1.0
        leases = want > 0 and (look or bool(self.maybe))
        if (self.beat_by is not None and busy) or (due and leases) or (now - self.beaten_at >= 1.0 and (busy or look)):
            flags += "b"
        if self.others and (want > 0 or busy) and not self.told and now - self.told_at > SILENCE_MS / 1000:
            flags += "w"
        if self.controlled:
            flags += "c"
        # The highest tier comes first anyway; the others that wait too long take turns with their shares.
        late = [tier for tier in self.starving if tier in self.tiers[1:]]
        if late and want > 0:
            self.owed += want * len(late)
            if self.owed >= _FIRST_SHARE:
                self.shares += 1
                first = f"{late[self.shares % len(late)]}:{self.owed // _FIRST_SHARE}"
                self.owed %= _FIRST_SHARE
        return flags, first

    def asked_tiers(self, flags: str) -> str:
        """The tiers to lease from: all when any may have jobs that no token told of."""
        every = "k" in flags or "n" in flags or (self.maybe and not self.from_token)
        return self.tiers if every else "".join(sorted(self.maybe))

    # What a turn said -----------------------------------------------------------------------------------------

    def count_done(self, done: Iterable[str], others: Iterable[tuple[str, Outcome]]) -> None:
        for entry in done:
            self.done[entry[0]] = self.done.get(entry[0], 0) + 1
        for entry, outcome in others:
            plain = outcome.outcome if type(outcome) is Stepped else outcome
            if type(plain) in (Done, Result):
                self.done[entry[0]] = self.done.get(entry[0], 0) + 1

    def learn(self, turn: Turn, flags: str, now: float) -> None:
        """Of beats, news, limits and others. ``flags`` are those that were asked; "a": it was asked ahead."""
        holds = self.held > 0 or bool(turn.jobs)
        if "a" not in flags:
            self.beat_by = None
        if "b" in flags:
            self.beaten_at = now
            self.beaten_idle = not holds
            self.told = self.told and holds
        if "w" in flags and holds:
            self.told, self.told_at = True, now
        if turn.due_in != -2:
            self.due_at = None if turn.due_in < 0 else now + turn.due_in / 1000
        if "d" in turn.news:
            self.look_at = now
        elif "w" in turn.news:
            self.look_at = min(self.look_at, now + SILENCE_MS / 1000)
        if turn.workers != -2:
            self.others = turn.workers > 1
        if "s" in flags:
            self.starving = turn.starving
        if turn.controlled or "c" in flags:
            self.controlled = turn.controlled
        if turn.room_in >= 0:  # a turn that did not try the limited tier says nothing of it
            room_at = now + turn.room_in / 1000
            self.room_at = room_at if self.room_at is None else min(self.room_at, room_at)
        self.from_token = False

    def begin_anew(self) -> None:
        """Its leases were lost: under a new name it holds nothing."""
        self.epoch += 1
        self.held = 0
        self.uncertain = []
        self.beaten_at = 0.0
        self.beaten_idle, self.told = True, False
        self.maybe = set(self.tiers)
        self.look_at = 0.0
