"""One round of the loop: who is asked, and in which order."""

from __future__ import annotations

import time
from typing import Final

from fourlane.worker.loop.apart import Apart
from fourlane.worker.loop.appetite import Appetite
from fourlane.worker.loop.order import whose_turn
from fourlane.worker.loop.promotions import Promotions
from fourlane.worker.loop.service import Service
from fourlane.worker.loop.services import Services
from fourlane.worker.loop.tokens import Tokens
from fourlane.worker.loop.turning import Turns
from fourlane.worker.loop.watching import Watching

__all__ = ["Rounds"]

_LEASE_SECONDS: Final = 0.005  # so long a round leases from several services; then it hears what else there is


class Rounds:
    """Leases by tier and in turn; then the services whose moment has come; then what is owed to other workers."""

    def __init__(
        self,
        services: Services,
        *,
        turns: Turns,
        tokens: Tokens,
        promotions: Promotions,
        watching: Watching,
        appetite: Appetite,
        apart: Apart,
    ) -> None:
        self.choices = 0
        """How often it was somebody's turn."""
        self._services = services
        self._turns = turns
        self._tokens = tokens
        self._promotions = promotions
        self._watching = watching
        self._appetite = appetite
        self._apart = apart

    def run(self) -> None:
        """It ends early when Redis does not answer."""
        now = time.monotonic()
        self._appetite.measure(now)
        if self._apart.has_suspects and self._apart.start(now):
            self._turns.began(now)
        for service in self._services:
            if service.tiers.resting:
                service.tiers.rouse(now)
            if service.agenda.room_at <= now:
                self._tokens.limits_have_room(service, now)
        if not self._promotions.take(now):
            return
        turned = self._lease(now)
        if turned is None or not self._ask_the_due(now, turned):
            return
        self._tokens.hand_on_untaken(now)
        self._watching.keep_contact(now)

    def _lease(self, now: float) -> set[Service] | None:
        """Lease as far as there is room. Returns who was asked; None when Redis did not answer."""
        turned: set[Service] = set()
        waiting = [service for service in self._services if service.tiers.maybe and not service.is_blocked(now)]
        while waiting and (want := self._appetite.want(time.monotonic())) > 0:
            if turned and time.monotonic() - now >= _LEASE_SECONDS:
                break  # tokens, cancels and looks wait; the next round goes on with those whose turn it is
            choice = whose_turn(waiting, want, self._turns.shares)
            if choice is None:
                break
            service: Service = choice.service
            known, leased = len(service.tiers.maybe), self._turns.leased
            ages = choice.first is not None or service.tiers.asks_ages_at(min(service.tiers.maybe)) <= now
            if not self._turns.take(service, choice.want, first=choice.first, down_to=choice.down_to, ages=ages):
                return None
            turned.add(service)
            self.choices += 1
            if self._turns.leased > leased:
                service.gave(self.choices)
            nothing_new = (known, leased) == (len(service.tiers.maybe), self._turns.leased)
            # Once in a round, but for tiers that it was not asked for: some jobs more end until the next.
            if choice.down_to == "9" or nothing_new or not service.tiers.maybe or service.out_of_step:
                waiting.remove(service)
        return turned

    def _ask_the_due(self, now: float, turned: set[Service]) -> bool:
        """Those who want a turn, whether or not there is room for their jobs. False when Redis did not answer."""
        settles = not self._appetite.leases_in_a_moment(now)
        asks_ages = {service for service, moment in self._services.ages_at() if moment <= now}
        due = [
            service
            for service in self._services
            if service not in turned and not service.is_blocked(now)
            and ((settles and service.finished) or service.uncertain or service in asks_ages
                 or service.agenda.time_has_come(now))
        ]  # fmt: skip
        for service in due:
            if not self._turns.take(service, self._appetite.want(time.monotonic()), ages=service in asks_ages):
                return False
        return True
