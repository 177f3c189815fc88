"""One wait in Redis, for tokens of some services: it may announce jobs, and have a turn follow."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from fourlane.errors import RedisUnavailable
from fourlane.names import Tier
from fourlane.queues.redis import Link, blocks_for, is_refusal, lacks_right
from fourlane.queues.store import Store
from fourlane.queues.turn import Ask, Turn
from fourlane.worker.loop.hearing import NEWS, UNHEARD_SECONDS, WATCH
from fourlane.worker.loop.service import Service

__all__ = ["Ahead", "Heard", "Wait"]

_WITHOUT_SECONDS: Final = 2.0  # how long a wait lasts that leaves out keys which Redis refused
_ANSWER_SECONDS: Final = 5.0  # for Redis to tell that a wait is over


class Heard(NamedTuple):
    """A token from Redis: a tier's digit, ``d``, ``w`` or ``v`` (queues/lua/parts/wake.lua); or why there is none."""

    service: Service
    token: str
    error: RedisUnavailable | None = None
    turn: Turn | None = None
    """What a turn gave that was asked ahead."""
    ahead: Ahead | None = None
    """As it was asked."""
    refused: Sequence[Service] = ()
    """The error was for keys of these; the next wait leaves them out, and does not last long."""


class Ahead(NamedTuple):
    """A turn that follows the wait: whose, and what it asks."""

    service: Service
    ask: Ask


class Wait:
    """One blocking BZPOPMIN for these services."""

    def __init__(self, store: Store, services: list[Service], *, leaves_out: bool) -> None:
        self.store = store
        self.services = services
        self.leaves_out = leaves_out
        """It may have to be ended, for what it leaves out may matter later."""
        self.link: Link | None = None
        self.armed = False
        self.until = 0.0
        """By then Redis must have answered."""
        self.ahead: Ahead | None = None
        self._ending = False  # Redis was asked to end it
        self._number: int | None = None  # by which Redis knows the connection; None where it may not be ended
        self._may_end = leaves_out
        self._service_of: dict[bytes, Service] = {}
        for service in services:
            keys = store.service(service.name)
            self._service_of |= dict.fromkeys((*keys.wake, keys.news, keys.watch), service)
        self._asked: list[bytes] = []
        self._refused: set[bytes] = set()  # for the next wait to leave out

    def arm(self, seconds: float, ahead: Ahead | None, alone: Service | None) -> None:
        """Ask. Raises RedisUnavailable. It is open."""
        assert self.link is not None
        now = time.monotonic()
        hear = [service.hearing.hears_again(now, service.held > 0) for service in self.services]
        if not all(hear):
            seconds = min(seconds, UNHEARD_SECONDS)
        keys = self._keys(alone)
        if self._refused:
            keys = [key for key in keys if key not in self._refused]
            seconds = min(seconds, _WITHOUT_SECONDS)
            self._refused.clear()
        if not keys:
            return
        self._asked = keys
        self.link.send("BZPOPMIN", *keys, blocks_for(seconds))
        self.armed, self._ending, self.ahead = True, False, None
        self.until = time.monotonic() + seconds + _ANSWER_SECONDS
        if ahead is not None and ahead.service in self.services:
            self.ahead = ahead
            service, wait_ms = ahead.service, int(seconds * 1000)
            self.store.ask_ahead(self.link, service.name, service.lease_name, ahead.ask, wait_ms=wait_ms)

    def open(self) -> None:
        """Connect. Raises RedisUnavailable."""
        if self.link is not None:
            return
        self.link = self.store.connector.open(self.store.service(self.services[0].name).jobs)
        self._number = None
        if self._may_end:
            try:
                self._number = int(self.link.command("CLIENT", "ID"))
            except RedisUnavailable as error:
                if not _may_not(error):
                    raise
                self._may_end = False

    def _keys(self, alone: Service | None) -> list[bytes]:
        """The highest tiers first, for the first key that has a token ends the wait."""
        keys: list[bytes] = []
        wanted = [(service, service.hearing.wants(service.tiers.maybe, service is alone)) for service in self.services]
        for tier in Tier:
            keys += [self.store.service(service.name).wake[tier] for service, bits in wanted if bits >> tier & 1]
        keys += [self.store.service(service.name).news for service, bits in wanted if bits & NEWS]
        keys += [self.store.service(service.name).watch for service, bits in wanted if bits & WATCH]
        for service, bits in wanted:
            service.hearing.begin(bits)
        return keys

    def is_deaf(self, alone: Service | None) -> bool:
        """True when something that matters by now is not listened for."""
        if not self.armed or self._ending or self._number is None:
            return False
        return any(service.hearing.is_deaf(service.tiers.maybe, service is alone) for service in self.services)

    def end(self, link: Link) -> bool:
        """Have Redis end it, over another link; its reply then comes as if nothing had happened in its time.

        False when Redis does not wait: its reply is on its way, or our asking still is. Then try again.
        """
        if self._number is None:
            return True
        try:
            self._ending = link.command("CLIENT", "UNBLOCK", self._number) == 1
        except RedisUnavailable as error:
            if not _may_not(error):
                raise
            self._number, self._may_end = None, False  # from now on its waits are short
            return True
        return self._ending

    @property
    def can_end(self) -> bool:
        return self._number is not None

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None  # in a cluster another node may be the one to ask
        for service in self.services:
            service.hearing.begin(0)
            if self.armed:
                service.miss()
        self.armed = False
        if self.ahead is not None:
            self.ahead.service.fall_out_of_step()  # it may have been given jobs that nobody will hear of
            self.ahead = None

    def hear(self) -> Heard:
        """Read the reply."""
        assert self.link is not None
        head = self.services[0]
        reply = fault = turn = None
        try:
            try:
                reply = self.link.receive()
            except RedisUnavailable as error:
                if not is_refusal(error):
                    raise
                fault = error
            ahead = self.ahead
            if ahead is not None:
                turn = self._hear_ahead(ahead.service)
            self.armed, self.ahead = False, None
            refused = self._find_refused() if fault is not None else ()
        except RedisUnavailable as error:
            return Heard(head, "", error)
        if reply is None:
            return Heard(head, "", fault, turn, ahead, refused)
        return Heard(self._service_of[reply[0]], reply[1].decode(), None, turn, ahead)

    def _hear_ahead(self, service: Service) -> Turn | None:
        assert self.link is not None
        try:
            return self.store.hear_ahead(self.link)
        except RedisUnavailable as error:
            if not is_refusal(error):
                raise
            service.fall_out_of_step()  # its next turn is refused too, and blocks it
            return None

    def _find_refused(self) -> list[Service]:
        """Redis does not say which key it was: ask for each."""
        assert self.link is not None
        for key in self._asked:
            self.link.send("ZCARD", key)
        for key in self._asked:
            try:
                self.link.receive()
            except RedisUnavailable as error:
                if not is_refusal(error):
                    raise
                self._refused.add(key)
        return [service for service in self.services if any(self._service_of[key] is service for key in self._refused)]


def _may_not(error: RedisUnavailable) -> bool:
    """Redis is well, and does not know this command or lets us not run it."""
    return is_refusal(error) or lacks_right(error)
