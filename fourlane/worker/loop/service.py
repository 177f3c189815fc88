"""What a worker knows of one service that it serves, between two turns. All that happens to it is a method here."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from fourlane.outcome import Back, Outcome
from fourlane.queues.beat import SILENCE_MS
from fourlane.queues.contact import STEP_SECONDS, Contact
from fourlane.queues.tally import Tally
from fourlane.queues.turn import Ask, Leased, Turn
from fourlane.worker.loop.agenda import Agenda
from fourlane.worker.loop.hearing import Hearing
from fourlane.worker.loop.tiers import Tiers
from fourlane.worker.run.run import Run

__all__ = ["Service"]


class Service:
    """Its leases and what is to be settled, its tiers, its moments, and what is listened for."""

    def __init__(self, name: str, number: int, tiers: str, worker: str, contact: Contact) -> None:
        self.name = name
        self.number = number
        self.worker = worker
        self.contact = contact
        self.epoch = 0
        self.tiers = Tiers(tiers)
        self.agenda = Agenda()
        self.hearing = Hearing(tiers)
        self.tally = Tally()
        """Jobs done since the last look."""
        self.finished: deque[tuple[Run, Outcome]] = deque()
        """Runs that ended, to be settled. Threads add to it."""
        self.uncertain: list[tuple[str, Outcome]] = []
        """Entries that are to be settled besides; some may be settled already."""
        self.held = 0
        """Leases that it has, as far as known."""
        self.served = 0
        """When it last gave jobs, as a running number."""
        self.settles_at_most = 0
        """After Redis refused a settlement: so few at once, to find whose fault it is; 0: any number."""
        self.blocked_until = 0.0
        self.out_of_step = False
        """A turn failed: what Redis says we hold may not be what we know."""
        self.others = False
        """There are workers who would notice our silence."""
        self.watches = False
        """Others hold leases: their silence would be noticed here."""
        self.controlled = False
        """It has limits."""
        self.lines = False
        """Jobs that it gave name lines."""

    @property
    def lease_name(self) -> str:
        """A new one after the leases were lost, so that late runs cannot pass for new ones."""
        return f"{self.worker}.{self.epoch}"

    @property
    def waiting(self) -> Sequence[str]:
        """Tiers that may be leased from, the highest first (worker/loop/order.py)."""
        return self.tiers.waiting

    @property
    def late(self) -> set[str]:
        """Tiers past their target."""
        return self.tiers.late

    def is_blocked(self, now: float) -> bool:
        return self.blocked_until > now

    def has_ended(self) -> bool:
        """Something is to be settled."""
        return bool(self.finished or self.uncertain)

    # What is to be settled ------------------------------------------------------------------------------------

    def give_back(self, run: Run, *, first: bool = False) -> None:
        """A run that did not begin here, or did not end."""
        if first:
            self.finished.appendleft((run, Back()))
        else:
            self.finished.append((run, Back()))

    def settle(self, entry: str, outcome: Outcome) -> None:
        """An entry ends so that no run here will end."""
        self.uncertain.append((entry, outcome))

    def take_uncertain(self, most: int) -> list[tuple[str, Outcome]]:
        """Those to be settled now."""
        taken, self.uncertain = self.uncertain[:most], self.uncertain[most:]
        return taken

    def settle_first(self, pairs: Sequence[tuple[str, Outcome]]) -> None:
        """These are offered again before all others."""
        self.uncertain = [*pairs, *self.uncertain]

    def settle_fewer(self, most: int) -> None:
        """Redis refused a settlement, and one of them is the cause."""
        self.settles_at_most = most

    def settled(self, number: int, faults: int) -> None:
        """A turn took so many, and so many of them are held still."""
        self.held = max(0, self.held - number + faults)
        self.settles_at_most *= 2
        if self.settles_at_most > number * 2:
            self.settles_at_most = 0  # all that was there passed

    # Leases ---------------------------------------------------------------------------------------------------

    def leased(self, jobs: Sequence[Leased]) -> None:
        """Redis gave these."""
        self.held += len(jobs)

    def refuse(self, jobs: Iterable[Leased]) -> None:
        """Redis gave these, and they are not wanted any more."""
        for leased in jobs:
            self.held += 1
            self.settle(leased.entry, Back())

    def gave(self, number: int) -> None:
        """It gave jobs: others of the tier are before it now."""
        self.served = number

    def fall_out_of_step(self) -> None:
        """What Redis says we hold may not be what we know: the next turn asks before. It looks too: what was not heard
        may have told of delayed jobs, and nobody else was told of them."""
        self.out_of_step = True
        self.agenda.look_now()

    def come_into_step(self) -> None:
        """Redis is about to be asked what is held. A doubt that comes meanwhile is a new one."""
        self.out_of_step = False

    def keep(self, held: AbstractSet[str]) -> None:
        """Redis says that these are held, and nothing else is to be settled."""
        self.held = len(held)
        self.uncertain = [(entry, outcome) for entry, outcome in self.uncertain if entry in held]

    def begin_anew(self) -> None:
        """Its leases were lost: under a new name it holds nothing."""
        self.epoch += 1
        self.held = 0
        self.uncertain = []
        self.agenda.lose()
        self.hearing.hear_all()
        self.tiers.all_may_have_jobs()

    # What is known --------------------------------------------------------------------------------------------

    def learn(self, turn: Turn, ask: Ask, now: float) -> None:
        """What a turn said of beats, news, limits and others."""
        self.agenda.learn(turn, ask, holds=self.held > 0 or bool(turn.jobs), now=now)
        if turn.workers is not None:
            self.others = turn.workers > 1
            self.watches = turn.expires_in is not None and turn.expires_in <= SILENCE_MS
        if turn.ages:
            self.tiers.learn_ages(turn.ages, now)
        if turn.controlled or ask.control:
            self.controlled = turn.controlled
        self.lines = self.lines or turn.lines
        self.tiers.looked_at()

    def limits_unknown(self) -> None:
        """It has limits, and could not be made to know what was leased before."""
        self.controlled = False

    def limits_have_room(self) -> None:
        """The moment came that a turn told of."""
        self.agenda.limits_looked_at()
        self.tiers.all_may_have_jobs()

    def watch(self, until: float) -> None:
        """Another worker holds leases: look then whether it is silent."""
        self.watches = True
        self.agenda.look_by(until)

    def block(self, until: float) -> None:
        """Leave it alone for a while."""
        self.blocked_until = until
        self.agenda.block(until)
        self.tiers.forget_tokens()

    def miss(self) -> None:
        """Tokens may have been lost: anything may have come, here or for another worker."""
        self.hears_nothing()
        if self.others:
            self.tiers.hand_all_on()

    def hears_nothing(self) -> None:
        """Redis refuses to wait for some of its keys: look instead."""
        self.tiers.all_may_have_jobs()
        self.agenda.look_now()

    def stirs_at(self) -> float:
        """When something is to be done for it without a turn: hand a token on, rouse a tier, hear from Redis."""
        moments = [*self.tiers.untaken.values(), *self.tiers.resting.values()]
        if self.watches:
            moments.append(self.contact.heard_at + STEP_SECONDS)
        return min(moments, default=math.inf)
