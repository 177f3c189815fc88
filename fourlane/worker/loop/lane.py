"""What a worker knows of one service between two turns, what it asks in the next one, and what it learns from it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Final

from fourlane.names import Tier
from fourlane.outcome import Outcome
from fourlane.queues.contact import Contact
from fourlane.queues.pulse import SILENCE_MS
from fourlane.queues.redis import Link
from fourlane.queues.store import Turn
from fourlane.queues.tally import Tally
from fourlane.worker.run.run import Run

__all__ = ["NEWS", "UNHEARD_SECONDS", "WATCH", "Lane"]

NEWS: Final = 1 << 4
"""Among the tiers that a lane listens for: the key by which Redis tells of delayed jobs."""
WATCH: Final = 1 << 5
"""Likewise: of workers that hold leases."""
UNHEARD_SECONDS: Final = 1.0
"""How long a wait lasts that leaves out what is another worker's for now."""
_BUSY_LOOK_SECONDS: Final = SILENCE_MS / 2000  # after so long with leases it looks after the other workers
_PASS_SECONDS: Final = 0.01  # in so long no more than so many jobs of a tier are passed over for their task's share
_MOST_PASSED: Final = 20
_TARGETS: Final = {str(int(tier)): tier.target_ms for tier in Tier}
_BITS: Final = {str(int(tier)): 1 << int(tier) for tier in Tier}


class Lane:
    """One service in a worker's loop."""

    def __init__(self, service: str, number: int, tiers: str, name: str, contact: Contact) -> None:
        self.service = service
        self.number = number
        self.tiers = tiers
        self.base_name = name
        self.contact = contact
        self.epoch = 0
        self.finished: deque[tuple[Run, Outcome]] = deque()
        self.held = 0
        self.maybe = set(tiers)
        self.served = 0
        self.rests: dict[str, float] = {}  # by tier: until when to lease none
        self._passed: dict[str, tuple[float, int]] = {}  # by tier: since when, and how many
        self.late: set[str] = set()
        self.late_at: dict[str, float] = {}  # by tier: when its oldest job will have waited past the target
        self.pass_on: dict[str, float] = {}  # by tier: when a token that no slot took is another worker's
        self.all_bits = sum(_BITS[tier] for tier in tiers) | NEWS | WATCH
        self.unheard = 0  # WATCH for a moment after it handed such a token on, and as long as it holds leases itself
        self.unheard_until = 0.0
        self.listens = 0  # what the present wait listens for
        self.due_at = math.inf
        self.room_at = math.inf
        self.look_at = 0.0
        self.busy_look_at = math.inf
        self.beaten_at = 0.0
        self.beaten_idle = True  # the last beat gave the long silence of a worker that holds nothing
        self.told_at = 0.0  # when another worker was last asked to watch this one
        self.others = False  # workers, who would notice our silence
        self.watches = False  # others hold leases: their silence would be noticed here
        self.from_token = False
        self.controlled = False
        self.link: Link | None = None
        self.beat_by = math.inf  # it holds leases that no beat has told of yet
        self.tally = Tally()  # jobs done since the last look
        self.uncertain: list[tuple[str, Outcome]] = []
        self.most_settled = 0  # after Redis refused a settlement: so few at once, to find whose fault it is; 0: any
        self.blocked_until = 0.0
        self.out_of_step = False  # a turn failed: what Redis says we hold may not be what we know

    @property
    def name(self) -> str:
        """The lease name; a new one after the leases were lost, so that late runs cannot pass for new ones."""
        return f"{self.base_name}.{self.epoch}"

    # Order (worker/loop/order.py) ----------------------------------------------------------------------------------

    @property
    def waiting(self) -> Sequence[str]:
        """Tiers that may have jobs, the highest first, and may be leased from."""
        tiers = self.maybe - self.rests.keys() if self.rests else self.maybe
        return sorted(tiers) if len(tiers) > 1 else list(tiers)

    def passed(self, tier: str, now: float) -> None:
        """A job found no place of its task's share, and lets those behind it pass. The tier rests when they are many,
        for lower ones have work too. From any thread."""
        since, count = self._passed.get(tier, (0.0, 0))
        if now - since > _PASS_SECONDS:
            since, count = now, 0
        self._passed[tier] = since, count + 1
        if count + 1 >= _MOST_PASSED:
            self.rests[tier] = since + _PASS_SECONDS

    def rouse(self, now: float) -> None:
        """Those whose rest is over may be leased from again."""
        for tier in [tier for tier, until in list(self.rests.items()) if until <= now]:
            del self.rests[tier]

    # When -----------------------------------------------------------------------------------------------------

    def time_has_come(self, now: float) -> bool:
        """A turn is due, though nothing finished and no job is known to wait."""
        return self._looks(now) or self.beat_by <= now

    def _looks(self, now: float) -> bool:
        return self.look_at <= now or self.due_at <= now or self.busy_look_at <= now

    def block(self, until: float) -> None:
        """Leave the service alone for a while."""
        self.blocked_until = self.look_at = until
        self.due_at = self.beat_by = self.room_at = self.busy_look_at = math.inf
        self.pass_on.clear()

    def asks_ages_at(self, best: str) -> float:
        """When to ask how long its tiers have waited: those that something better, of ``best``, delays. No token tells
        of them meanwhile."""
        behind = [self.late_at.get(tier, 0.0) for tier in self.tiers if tier > best and tier not in self.late]
        return min(behind, default=math.inf)

    # What to listen for ---------------------------------------------------------------------------------------

    def wants_to_hear(self, alone: bool) -> int:
        """The tiers, as bits, whose tokens would tell something new, NEWS and WATCH.

        Of a service that is asked anyway only what is better; nothing at all when it is the only one that is asked.
        """
        if not self.maybe:
            return self.all_bits & ~self.unheard
        if alone:
            return 0
        best = min(self.maybe)
        return sum(_BITS[tier] for tier in self.tiers if tier < best) | (NEWS | WATCH) & ~self.unheard

    def hand_watch_on(self, now: float) -> None:
        """Such a token was heard, and another worker's it shall be."""
        self.unheard, self.unheard_until = WATCH, now + UNHEARD_SECONDS

    def hears_again(self, now: float) -> bool:
        """True when all that it wants to hear may be listened for in the next wait."""
        if self.unheard and not self.held and now >= self.unheard_until:
            self.unheard = 0
        return not self.unheard

    # The next turn --------------------------------------------------------------------------------------------

    def flags(self, now: float, want: int, busy: bool, ages: bool) -> str:
        """What to ask besides (queues/lua/turn.lua).

        A lone job's settling asks nothing: whatever came meanwhile has left a token.
        """
        if self.most_settled:
            return "c" if self.controlled else ""  # nothing else shall be refused with it
        flags = "s" if ages else ""
        look = self._looks(now)
        if look:
            flags += "k"
        if busy:
            flags += "n"
        due = self.beaten_idle or now - self.beaten_at >= 1.0
        leases = want > 0 and (look or bool(self.maybe))
        if (self.beat_by < math.inf and busy) or (due and leases) or (now - self.beaten_at >= 1.0 and (busy or look)):
            flags += "b"
        if (want > 0 or busy) and now - self.told_at > SILENCE_MS / 1000:
            flags += "w"
        if self.controlled:
            flags += "c"
        return flags

    def asked_tiers(self, flags: str, down_to: str) -> str:
        """The tiers to lease from: all when any may have jobs that no token told of, but none below ``down_to``."""
        every = "k" in flags or "n" in flags or (self.maybe and not self.from_token)
        tiers = self.tiers if every else "".join(sorted(self.maybe))
        if self.rests:
            tiers = "".join(tier for tier in tiers if tier not in self.rests)
        return "".join(tier for tier in tiers if tier <= down_to)

    # What a turn said -----------------------------------------------------------------------------------------

    def learn(self, turn: Turn, flags: str, now: float) -> None:
        """Of beats, news, limits and others. ``flags`` are those that were asked; "a": it was asked ahead."""
        holds = self.held > 0 or bool(turn.jobs)
        if "a" not in flags:
            self.beat_by = math.inf
        if "a" in flags and turn.now_ms:  # it was idle, and the script has told of its leases
            self.beaten_at, self.beaten_idle = now, False
            self.told_at = now
        if "b" in flags:
            self.beaten_at = now
            self.beaten_idle = not holds
        if "w" in flags and holds:
            self.told_at = now
        if not holds:
            self.busy_look_at = math.inf
        elif "k" in flags or self.busy_look_at == math.inf:
            self.busy_look_at = now + _BUSY_LOOK_SECONDS
        if turn.due_in != -2:
            self.due_at = math.inf if turn.due_in < 0 else now + turn.due_in / 1000
        if "d" in turn.news:
            self.look_at = now
        if turn.workers != -2:
            self.others = turn.workers > 1
            self.watches = 0 <= turn.expires_in <= SILENCE_MS
        if turn.ages:
            self._learn_ages(turn.ages, now)
        if turn.controlled or "c" in flags:
            self.controlled = turn.controlled
        if turn.room_in >= 0:  # a turn that did not try the limited tier says nothing of it
            self.room_at = min(self.room_at, now + turn.room_in / 1000)
        self.from_token = False

    def watch(self, now: float) -> None:
        """Another worker holds leases."""
        self.watches = True
        self.look_at = min(self.look_at, now + SILENCE_MS / 1000)

    def _learn_ages(self, ages: Sequence[int], now: float) -> None:
        self.late.clear()
        for tier in self.tiers:
            age = ages[int(tier)]
            if age < 0:
                self.maybe.discard(tier)
            else:
                self.maybe.add(tier)
            late_in = _TARGETS[tier] - max(0, age)
            self.late_at[tier] = now + late_in / 1000
            if late_in < 0:
                self.late.add(tier)

    def leased(self, asked: str, more: str) -> None:
        """A turn tried these tiers, and these of them may have more."""
        self.maybe = (self.maybe - set(asked)) | (set(more) & set(self.tiers))
        self.late &= self.maybe
        if self.pass_on:
            self.pass_on = {tier: at for tier, at in self.pass_on.items() if tier not in asked}

    def miss(self) -> None:
        """Tokens may have been lost: anything may have come, here or for another worker."""
        self.maybe = set(self.tiers)
        self.look_at = 0.0
        if self.others:
            self.pass_on = dict.fromkeys(self.tiers, 0.0)

    def begin_anew(self) -> None:
        """Its leases were lost: under a new name it holds nothing."""
        self.epoch += 1
        self.held = 0
        self.uncertain = []
        self.beaten_at = 0.0
        self.beaten_idle, self.told_at = True, 0.0
        self.busy_look_at, self.unheard = math.inf, 0
        self.maybe = set(self.tiers)
        self.look_at = 0.0
