"""Where a worker's loop sleeps: the sockets on which Redis may announce jobs, and a pipe for its own threads."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from fourlane.errors import RedisUnavailable
from fourlane.queues.store import Store, Turn
from fourlane.worker.lane import Lane

__all__ = ["Heard", "Waits"]

_WAIT_SECONDS: Final = 30.0  # how long one wait in Redis lasts when nothing comes
_ANSWER_SECONDS: Final = 5.0


class Heard(NamedTuple):
    """A token from Redis: a tier's digit, ``d`` or ``w`` (queues/lua/parts/wake.lua); or why there is none."""

    lane: Lane
    token: str
    error: RedisUnavailable | None = None
    turn: Turn | None = None
    """What a turn gave that was asked ahead; of the lane ``turn_of``."""
    turn_of: Lane | None = None


class Waits:
    """One blocking BZPOPMIN for all services, or on a cluster one for each."""

    def __init__(self, store: Store, lanes: Sequence[Lane]) -> None:
        self.store = store
        self.groups = [[lane] for lane in lanes] if store.connector.clustered else [list(lanes)]
        self._pipe_out, self._pipe_in = os.pipe()
        os.set_blocking(self._pipe_in, False)
        os.set_blocking(self._pipe_out, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe_out, selectors.EVENT_READ, None)
        self._registered: dict[int, Lane] = {}

    def wake(self) -> None:
        """End the sleep; from any thread, and from signal handlers."""
        try:
            os.write(self._pipe_in, b"x")
        except BlockingIOError:
            pass  # it is full of such bytes already

    def armed(self) -> bool:
        """True when Redis has been asked by any group."""
        return any(group[0].waits for group in self.groups)

    def answer_by(self) -> float | None:
        """The moment by which Redis must have answered; None when it was not asked."""
        return min((group[0].waits_until for group in self.groups if group[0].waits), default=None)

    def overdue(self) -> bool:
        """True when a wait was not answered in its time: the connection is half open."""
        answer_by = self.answer_by()
        return answer_by is not None and answer_by <= time.monotonic()

    def arm(self, lane: Lane | None, tier: str, want: int) -> Heard | None:
        """Ask Redis, where it is not asked already, to tell of new jobs. Returns what went wrong.

        With a lane a turn is asked ahead: Redis takes it as soon as the wait ends, and a round trip is saved. It is
        a guess, that the next job comes where the last one came.
        """
        seconds = _WAIT_SECONDS * max(1.0, len(self.groups) / 4)
        for group in self.groups:
            if not group[0].waits:
                try:
                    self._ask(group, seconds)
                    if lane in group and group[0].waiter is not None:
                        group[0].asked_ahead = (lane, want, tier)
                        self.store.ask_ahead(group[0].waiter, lane.service, lane.name, want=want, tiers=tier)
                except RedisUnavailable as error:
                    return Heard(group[0], "", error)
        return None

    def _ask(self, group: list[Lane], seconds: float) -> None:
        head = group[0]
        keys: list[bytes] = []
        for lane in group:
            service = self.store.service(lane.service)
            keys += [service.wake[int(tier)] for tier in lane.tiers] + [service.news]
        if head.waiter is None:
            head.waiter = self.store.connector.open(keys[0])
        fd = head.waiter.fileno()
        head.waiter.send("BZPOPMIN", *keys, f"{seconds:.3f}")
        if self._registered.get(fd) is not head:
            self._selector.register(fd, selectors.EVENT_READ, head)
            self._registered[fd] = head
        head.waits, head.waits_until = True, time.monotonic() + seconds + _ANSWER_SECONDS

    def drop(self) -> None:
        """Close the sockets; the next arm opens new ones."""
        for fd, lane in list(self._registered.items()):
            self._selector.unregister(fd)
            del self._registered[fd]
            if lane.waiter is not None:
                lane.waiter.close()
                lane.waiter = None  # in a cluster another node may be the one to ask
            lane.waits = False
            if lane.asked_ahead is not None:
                lane.asked_ahead[0].out_of_step = True  # it may have been given jobs that nobody will hear of
                lane.asked_ahead = None

    def sleep(self, seconds: float) -> list[Heard] | None:
        """Sleep until something happens; None when nothing did."""
        events = self._selector.select(seconds)
        heard: list[Heard] = []
        for key, _ in events:
            if key.data is None:
                self._clear()
            else:
                heard += self._hear(key.data)
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

    def _hear(self, head: Lane) -> list[Heard]:
        assert head.waiter is not None
        turn = lane = None
        try:
            reply = head.waiter.receive()
            if head.asked_ahead is not None:
                turn, lane = self.store.hear_ahead(head.waiter), head.asked_ahead[0]
        except RedisUnavailable as error:
            return [Heard(head, "", error)]
        head.waits, head.asked_ahead = False, None
        if reply is None:
            return [Heard(head, "", None, turn, lane)]
        key, token = reply[0], reply[1].decode()
        for group in self.groups:
            for told in group:
                if key.startswith(self.store.service(told.service).prefix.encode()):
                    return [Heard(told, token, None, turn, lane)]
        return [Heard(head, "", None, turn, lane)]
