"""How a worker stops. A deploy is not a failure: what runs may end, the rest is given back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.redis import is_refusal
from fourlane.queues.store import Store
from fourlane.telling import tell
from fourlane.worker.loop.apart import Apart
from fourlane.worker.loop.services import Services
from fourlane.worker.loop.turning import Turns
from fourlane.worker.loop.waits import Waits
from fourlane.worker.run.executor import Executor

__all__ = ["Stopping"]

log = logging.getLogger("fourlane.worker")

_LAST_SECONDS: Final = 5.0  # when the grace is over: for what is still to be settled, and what cut coroutines book
_LISTEN_SECONDS: Final = 0.5
_AGAIN_SECONDS: Final = 0.020


class Stopping:
    """1. Give back what has not begun. 2. Let runs end within the grace. 3. Cut the rest. 4. Leave."""

    def __init__(
        self,
        store: Store,
        services: Services,
        executor: Executor,
        *,
        turns: Turns,
        apart: Apart,
        waits: Waits,
        grace_seconds: float,
    ) -> None:
        self.asked = False
        self.at_once = False
        """It was asked for a second time: no grace is left."""
        self.grace_ends_at = 0.0
        self._store = store
        self._services = services
        self._executor = executor
        self._turns = turns
        self._apart = apart
        self._waits = waits
        self._grace_seconds = grace_seconds

    def ask(self) -> None:
        """From any thread, and from signal handlers."""
        self.at_once = self.asked
        self.asked = True

    def give_back(self) -> None:
        """What has not begun; what runs is told that the worker stops."""
        self._waits.drop()
        for run in self._executor.take_back():
            run.service.give_back(run)
        self._apart.give_back()
        self.grace_ends_at = time.monotonic() + self._grace_seconds
        self._executor.tell_shutdown()

    def let_end(self, listen: Callable[[], None]) -> None:
        """Settle what ends, until nothing runs or the grace is over. ``listen`` hears what others tell."""
        while True:
            listen()
            for service in self._services:
                if service.has_ended() and not service.is_blocked(time.monotonic()):
                    self._turns.take(service, 0)
            now = time.monotonic()
            if self.at_once or not self._executor.running() or now >= self.grace_ends_at:
                return
            self._executor.waiting, self._executor.low = True, 0
            ready = self._services.have_ready_ends(now)
            self._waits.sleep_deaf(0 if ready else max(0.0, min(_LISTEN_SECONDS, self.grace_ends_at - now)))

    def leave(self) -> None:
        """Give back what did not end, say so to Redis, and let it clean up."""
        for run in self._executor.abandon():
            tell.abandoned(run)
            run.service.give_back(run)
        deadline = time.monotonic() + _LAST_SECONDS
        self._settle_last(deadline)
        self._executor.let_clean_up(deadline)
        self._tell_gone()

    def _settle_last(self, deadline: float) -> None:
        """Settle all that is left, as far as Redis takes it until then."""
        while left := [service for service in self._services if service.has_ended()]:
            now = time.monotonic()
            if now >= deadline:
                return
            ready = [service for service in left if not service.is_blocked(now)]
            if not ready:
                wakes_at = min(deadline, *(service.blocked_until for service in left))
                self._waits.sleep_deaf(max(0.0, wakes_at - now))
            for service in ready:
                if time.monotonic() < deadline and not self._turns.take(service, 0):
                    self._waits.sleep_deaf(_AGAIN_SECONDS)

    def _tell_gone(self) -> None:
        """Unless Redis is away: each try lasts some seconds."""
        deadline = time.monotonic() + _LAST_SECONDS
        for service in self._services:
            try:
                self._store.leave(service.name, service.lease_name, service.tally.words())
            except RedisUnavailable as error:
                log.warning("%s; its jobs come back when its silence is noticed", error)
                may_differ = is_refusal(error) or self._services.clustered
                if not may_differ or time.monotonic() >= deadline:
                    return
