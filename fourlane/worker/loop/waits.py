"""Where a worker's loop sleeps: the sockets on which Redis may announce jobs, and a pipe for its own threads."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from fourlane.errors import RedisUnavailable
from fourlane.names import Tier
from fourlane.queues.pulse import SILENCE_MS
from fourlane.queues.redis import Link, blocks_for, is_refusal, lacks_right
from fourlane.queues.store import Store, Turn
from fourlane.worker.loop.lane import NEWS, UNHEARD_SECONDS, WATCH, Lane

__all__ = ["Ahead", "Heard", "Waits"]

_WAIT_SECONDS: Final = 30.0  # how long one wait in Redis lasts when nothing comes
_BLIND_SECONDS: Final = 0.5  # and where the server cannot end it for us, while some services are left out
_WITHOUT_SECONDS: Final = 2.0  # and when keys are left out that Redis refused
_ANSWER_SECONDS: Final = 5.0


class Heard(NamedTuple):
    """A token from Redis: a tier's digit, ``d``, ``w`` or ``v`` (queues/lua/parts/wake.lua); or why there is none."""

    lane: Lane
    token: str
    error: RedisUnavailable | None = None
    turn: Turn | None = None
    """What a turn gave that was asked ahead."""
    ahead: Ahead | None = None
    """As it was asked."""
    refused: Sequence[Lane] = ()
    """The error was for keys of these; the next wait leaves them out, and does not last long."""


class Ahead(NamedTuple):
    """A turn that follows the wait: whose, of which tier, and how many jobs."""

    lane: Lane
    tier: str
    want: int


class Wait:
    """One blocking BZPOPMIN for these services."""

    def __init__(self, store: Store, lanes: list[Lane], *, leaves_out: bool) -> None:
        self.store = store
        self.lanes = lanes
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
        self._lane_of: dict[bytes, Lane] = {}
        for lane in lanes:
            keys = store.service(lane.service)
            self._lane_of |= dict.fromkeys((*keys.wake, keys.news, keys.watch), lane)
        self._asked: list[bytes] = []
        self._refused: set[bytes] = set()  # for the next wait to leave out

    def arm(self, seconds: float, ahead: Ahead | None, alone: Lane | None) -> None:
        """Ask. Raises RedisUnavailable. It is open."""
        assert self.link is not None
        now = time.monotonic()
        hear = [lane.hears_again(now) for lane in self.lanes]
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
        if ahead is not None and ahead.lane in self.lanes:
            self.ahead = ahead
            lane, silence, wait = ahead.lane, SILENCE_MS, int(seconds * 1000)
            self.store.ask_ahead(
                self.link, lane.service, lane.name, want=ahead.want, tiers=ahead.tier, silence_ms=silence, wait_ms=wait
            )

    def open(self) -> None:
        """Connect. Raises RedisUnavailable."""
        if self.link is not None:
            return
        self.link = self.store.connector.open(self.store.service(self.lanes[0].service).jobs)
        self._number = None
        if self._may_end:
            try:
                self._number = int(self.link.command("CLIENT", "ID"))
            except RedisUnavailable as error:
                if not _may_not(error):
                    raise
                self._may_end = False

    def _keys(self, alone: Lane | None) -> list[bytes]:
        """The highest tiers first, for the first key that has a token ends the wait."""
        keys: list[bytes] = []
        wanted = [(lane, lane.wants_to_hear(lane is alone)) for lane in self.lanes]
        for tier in Tier:
            keys += [self.store.service(lane.service).wake[tier] for lane, bits in wanted if bits >> tier & 1]
        keys += [self.store.service(lane.service).news for lane, bits in wanted if bits & NEWS]
        keys += [self.store.service(lane.service).watch for lane, bits in wanted if bits & WATCH]
        for lane, bits in wanted:
            lane.listens = bits
        return keys

    def is_deaf(self, alone: Lane | None) -> bool:
        """True when something that matters by now is not listened for."""
        if not self.armed or self._ending or self._number is None:
            return False
        # What wants_to_hear says of a service with nothing known, without the call: most are such.
        return any(
            (lane.wants_to_hear(lane is alone) if lane.maybe else lane.all_bits & ~lane.unheard) & ~lane.listens
            for lane in self.lanes
        )

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
        for lane in self.lanes:
            lane.listens = 0
            if self.armed:
                lane.miss()
        self.armed = False
        if self.ahead is not None:
            self.ahead.lane.out_of_step = True  # it may have been given jobs that nobody will hear of
            self.ahead = None

    def hear(self) -> Heard:
        """Read the reply."""
        assert self.link is not None
        head = self.lanes[0]
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
                turn = self._hear_ahead(ahead.lane)
            self.armed, self.ahead = False, None
            refused = self._find_refused() if fault is not None else ()
        except RedisUnavailable as error:
            return Heard(head, "", error)
        if reply is None:
            return Heard(head, "", fault, turn, ahead, refused)
        return Heard(self._lane_of[reply[0]], reply[1].decode(), None, turn, ahead)

    def _hear_ahead(self, lane: Lane) -> Turn | None:
        assert self.link is not None
        try:
            return self.store.hear_ahead(self.link)
        except RedisUnavailable as error:
            if not is_refusal(error):
                raise
            lane.out_of_step, lane.look_at = True, 0.0  # its next turn is refused too, and blocks it
            return None

    def _find_refused(self) -> list[Lane]:
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
        return [lane for lane in self.lanes if any(self._lane_of[key] is lane for key in self._refused)]


class Waits:
    """One wait for all services, or on a cluster one for each."""

    def __init__(self, store: Store, lanes: Sequence[Lane]) -> None:
        self._store = store
        self.waits: list[Wait] = []
        self._group(list(lanes))
        self._pipe_out, self._pipe_in = os.pipe()
        os.set_blocking(self._pipe_in, False)
        os.set_blocking(self._pipe_out, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe_out, selectors.EVENT_READ, None)
        self._registered: dict[int, Wait] = {}

    def _group(self, lanes: list[Lane]) -> None:
        groups = [[lane] for lane in lanes] if self._store.connector.clustered else [lanes]
        self.waits = [Wait(self._store, group, leaves_out=len(lanes) > 1) for group in groups]
        self._seconds_factor = max(1.0, len(groups) / 4)

    def add(self, lane: Lane) -> None:
        """Hear of one more service."""
        self.drop()
        self._group([*(known for wait in self.waits for known in wait.lanes), lane])

    def wake(self) -> None:
        """End the sleep; from any thread, and from signal handlers."""
        try:
            os.write(self._pipe_in, b"x")
        except BlockingIOError:
            pass  # it is full of such bytes already

    def armed(self) -> bool:
        """True when Redis has been asked by any."""
        return any(wait.armed for wait in self.waits)

    def answer_by(self) -> float | None:
        """The moment by which Redis must have answered; None when it was not asked."""
        return min((wait.until for wait in self.waits if wait.armed), default=None)

    def overdue(self) -> bool:
        """True when a wait was not answered in its time: the connection is half open."""
        answer_by = self.answer_by()
        return answer_by is not None and answer_by <= time.monotonic()

    def asks_ahead_for(self, lane: Lane) -> bool:
        """True when a turn of this service follows a wait."""
        return any(wait.ahead is not None and wait.ahead.lane is lane for wait in self.waits)

    def arm(self, ahead: Ahead | None, alone: Lane | None) -> Heard | None:
        """Ask Redis, where it is not asked already, to tell of new jobs. Returns what went wrong.

        With ``ahead`` a turn is asked too: Redis takes it as soon as the wait ends, and a round trip is saved. It is
        a guess, that the next job comes where the last one came. ``alone`` is the only service that is asked anyway.
        """
        for wait in self.waits:
            if not wait.armed:
                seconds = _WAIT_SECONDS * self._seconds_factor
                try:
                    wait.open()
                    if wait.leaves_out and not wait.can_end and self._some_wait(wait):
                        seconds = _BLIND_SECONDS
                    wait.arm(seconds, ahead, alone)
                    if wait.armed:
                        self._register(wait)
                except RedisUnavailable as error:
                    return Heard(wait.lanes[0], "", error)
        return None

    @staticmethod
    def _some_wait(wait: Wait) -> bool:
        return any(lane.maybe for lane in wait.lanes)

    def _register(self, wait: Wait) -> None:
        assert wait.link is not None
        fd = wait.link.fileno()
        if self._registered.get(fd) is not wait:
            self._selector.register(fd, selectors.EVENT_READ, wait)
            self._registered[fd] = wait

    def drop(self) -> None:
        """Close the sockets; the next arm opens new ones."""
        for fd in list(self._registered):
            self._selector.unregister(fd)
            del self._registered[fd]
        for wait in self.waits:
            wait.close()

    def sleep(self, seconds: float) -> list[Heard] | None:
        """Sleep until something happens; None when nothing did."""
        events = self._selector.select(seconds)
        heard: list[Heard] = []
        for key, _ in events:
            if key.data is None:
                self._clear()
            else:
                heard.append(key.data.hear())
        return heard if events else None

    def sleep_deaf(self, seconds: float) -> None:
        """Sleep until a thread wakes it; what Redis tells stays unread."""
        self._selector.select(seconds)
        self._clear()

    def _clear(self) -> None:
        try:
            os.read(self._pipe_out, 4096)
        except BlockingIOError:
            pass


def _may_not(error: RedisUnavailable) -> bool:
    """Redis is well, and does not know this command or lets us not run it."""
    return is_refusal(error) or lacks_right(error)
