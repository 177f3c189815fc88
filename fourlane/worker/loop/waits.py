"""Where a worker's loop sleeps: the sockets on which Redis may announce jobs, and a pipe for its own threads."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Sequence
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.store import Store
from fourlane.worker.loop.service import Service
from fourlane.worker.loop.wait import Ahead, Heard, Wait

__all__ = ["Waits"]

_WAIT_SECONDS: Final = 30.0  # how long one wait in Redis lasts when nothing comes
_BLIND_SECONDS: Final = 0.5  # and where the server cannot end it for us, while some services are left out


class Waits:
    """One wait for all services, or on a cluster one for each."""

    def __init__(self, store: Store, services: Sequence[Service]) -> None:
        self._store = store
        self.waits: list[Wait] = []
        self._group(list(services))
        self._pipe_out, self._pipe_in = os.pipe()
        os.set_blocking(self._pipe_in, False)
        os.set_blocking(self._pipe_out, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe_out, selectors.EVENT_READ, None)
        self._registered: dict[int, Wait] = {}
        self.armed_at = 0.0
        """When Redis was last asked while it was asked nothing."""

    def _group(self, services: list[Service]) -> None:
        groups = [[service] for service in services] if self._store.connector.clustered else [services]
        self.waits = [Wait(self._store, group, leaves_out=len(services) > 1) for group in groups]
        self._seconds_factor = max(1.0, len(groups) / 4)

    def add(self, service: Service) -> None:
        """Hear of one more service."""
        self.drop()
        self._group([*(known for wait in self.waits for known in wait.services), service])

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

    def asks_ahead_for(self, service: Service) -> bool:
        """True when a turn of this service follows a wait."""
        return any(wait.ahead is not None and wait.ahead.service is service for wait in self.waits)

    def arm(self, ahead: Ahead | None, alone: Service | None) -> Heard | None:
        """Ask Redis, where it is not asked already, to tell of new jobs. Returns what went wrong.

        With ``ahead`` a turn is asked too: Redis takes it as soon as the wait ends, and a round trip is saved. It is
        a guess, that the next job comes where the last one came. ``alone`` is the only service that is asked anyway.
        """
        if not self.armed():
            self.armed_at = time.monotonic()
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
                    return Heard(wait.services[0], "", error)
        return None

    @staticmethod
    def _some_wait(wait: Wait) -> bool:
        return any(service.tiers.maybe for service in wait.services)

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
