"""What Redis tells while the loop waits: tokens, and turns that were asked ahead."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.beat import SILENCE_MS
from fourlane.queues.store import Store
from fourlane.queues.turn import Ask, Turn
from fourlane.worker.loop.appetite import Appetite
from fourlane.worker.loop.recovery import Recovery
from fourlane.worker.loop.service import Service
from fourlane.worker.loop.services import Services
from fourlane.worker.loop.turning import Turns
from fourlane.worker.loop.wait import Ahead, Heard
from fourlane.worker.loop.watching import Watching

__all__ = ["Tokens"]

log = logging.getLogger("fourlane.worker")

_HAND_ON_SECONDS: Final = 0.020
_BEAT_WITHIN_SECONDS: Final = 0.001
_MOST_AHEAD: Final = 2


class Tokens:
    """Takes them, hands on those that no slot takes, and guesses where the next job comes from."""

    def __init__(
        self,
        store: Store,
        services: Services,
        *,
        turns: Turns,
        appetite: Appetite,
        recovery: Recovery,
        watching: Watching,
    ) -> None:
        self._store = store
        self._services = services
        self._turns = turns
        self._appetite = appetite
        self._recovery = recovery
        self._watching = watching
        self._last: tuple[Service | None, str] = (None, "")  # where the last job came from

    def guess(self, now: float) -> Ahead | None:
        """The turn to ask ahead: the next job comes where the last one came."""
        service, tier = self._last
        if service is None or service.out_of_step or service.is_blocked(now):
            return None
        return Ahead(service, Ask(min(_MOST_AHEAD, self._appetite.want(now)), tier, ahead=True))

    def take(self, heard: Heard) -> None:
        """What one wait told. A token that led to the turn asked ahead has done its part."""
        service, token, error, turn, ahead, refused = heard
        if turn is not None and ahead is not None:
            self._take_ahead(ahead, turn)
        if error is not None and not refused:
            self._recovery.failed(service, error)
            return
        now = time.monotonic()
        service.contact.heard(now)
        if error is not None:
            _look_instead(refused, error)
        elif token:
            if turn is None or ahead is None or (service, token) != (ahead.service, ahead.ask.tiers):
                self._take_token(service, token, now)
        elif turn is not None and not turn.jobs:
            self._last = (None, "")  # nothing came for as long as a wait lasts: no need to ask each time

    def _take_token(self, service: Service, token: str, now: float) -> None:
        if token == "d":
            service.agenda.look_now()
        elif token in ("w", "v"):
            self._watching.take_token(service, token, now)
        elif self._appetite.want(now) > 0 and token not in service.tiers.resting:
            self._last = (service, token)
            service.tiers.heard(token)
        else:
            wait = _HAND_ON_SECONDS if self._appetite.slot_soon() else 0.0
            service.tiers.heard_without_room(token, now + wait)

    def _take_ahead(self, ahead: Ahead, turn: Turn) -> None:
        service, now = ahead.service, time.monotonic()
        if turn.jobs and (self._appetite.want(now) <= 0 or service.out_of_step or self._is_old(turn)):
            # What made it want them has changed meanwhile, or they may be another's by now.
            service.refuse(turn.jobs)
            return
        if turn.jobs and not turn.beaten:
            service.agenda.leased_unbeaten(now, _BEAT_WITHIN_SECONDS)
        self._turns.take_in_ahead(service, turn, ahead.ask, now)

    def _is_old(self, turn: Turn) -> bool:
        """Its leases may have run out: it lay unread for long, and nobody beat for what nobody here knew of."""
        return turn.now_ms > 0 and self._store.clock.now_ms() - turn.now_ms > SILENCE_MS / 2

    # Tokens that are another worker's

    def hand_on_untaken(self, now: float) -> None:
        """What was announced here and no slot took."""
        for service in self._services:
            if service.tiers.untaken:
                for tier in service.tiers.take_untaken(now):
                    self._hand_on(service, tier)

    def limits_have_room(self, service: Service, now: float) -> None:
        """A moment that a turn here was told of."""
        service.limits_have_room()
        if self._appetite.want(now) <= 0 and service.others:
            for tier in service.tiers.served:  # this worker is full; an idle one does not know of the moment
                self._hand_on(service, tier)

    def _hand_on(self, service: Service, tier: str) -> None:
        try:
            self._store.wake(service.name, int(tier))
        except RedisUnavailable as error:
            log.warning("%s", error)


def _look_instead(services: Sequence[Service], error: RedisUnavailable) -> None:
    """Redis refuses to wait for some keys of these: they are left out for a while."""
    for service in services:
        log.error("service=%s: jobs are found late, by looks: %s", service.name, error)
        service.hears_nothing()
