"""When the loop sleeps, for how long, and what it has Redis tell meanwhile."""

from __future__ import annotations

import logging
import time
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.telling import tell
from fourlane.worker.loop.apart import Apart
from fourlane.worker.loop.appetite import Appetite
from fourlane.worker.loop.promotions import Promotions
from fourlane.worker.loop.recovery import Recovery
from fourlane.worker.loop.service import Service
from fourlane.worker.loop.services import Services
from fourlane.worker.loop.tokens import Tokens
from fourlane.worker.loop.turning import Turns
from fourlane.worker.loop.wait import Ahead
from fourlane.worker.loop.waits import Waits
from fourlane.worker.run.executor import Executor

__all__ = ["Sleep"]

log = logging.getLogger("fourlane.worker")

_GIVE_BACK_SECONDS: Final = 0.020
_SHORT_JOB_SECONDS: Final = 0.001
_BUSY_SECONDS: Final = 0.005  # from then on a backlog is worked on, and what other services get must be listened for


class Sleep:
    """Until something is heard, a run ends, or a moment comes."""

    def __init__(
        self,
        services: Services,
        executor: Executor,
        waits: Waits,
        *,
        turns: Turns,
        tokens: Tokens,
        promotions: Promotions,
        appetite: Appetite,
        apart: Apart,
        recovery: Recovery,
    ) -> None:
        self._services = services
        self._executor = executor
        self._waits = waits
        self._turns = turns
        self._tokens = tokens
        self._promotions = promotions
        self._appetite = appetite
        self._apart = apart
        self._recovery = recovery
        self._busy_since = 0.0

    def drop_overdue(self) -> None:
        """A wait that was not answered in its time."""
        if self._waits.overdue():
            log.warning("Redis did not end a wait in its time; connecting anew")
            self._waits.drop()

    def wait(self) -> None:
        """Sleep, unless something is to be done at once; and take what Redis told."""
        executor = self._executor
        executor.low = executor.backlog.qsize() // 2
        executor.waiting = True
        timeout = self._timeout()
        now = time.monotonic()
        ready = self._services.have_ready_ends(now) and not self._appetite.leases_in_a_moment(now)
        if ready and executor.backlog.qsize() <= executor.low:
            timeout = 0.0
        if self._arm(timeout, now):
            tell_again_at = tell.resting(now)
            if tell_again_at is not None:
                timeout = max(0.0, min(timeout, tell_again_at - now))
            answer_by = self._waits.answer_by()
            self._sleep(timeout if answer_by is None else max(0.0, min(timeout, answer_by - time.monotonic())))
        executor.waiting = False

    def _sleep(self, seconds: float) -> bool:
        """True when something happened."""
        told = self._waits.sleep(seconds)
        for heard in told or ():
            self._tokens.take(heard)
        return told is not None

    # For how long

    def _timeout(self) -> float:
        now = time.monotonic()
        if self._is_asked_at_once(now):
            return 0.0
        moments = [self._services.next_at(now), self._promotions.next_at(now)]
        moments += [moment for service, moment in self._services.ages_at() if not service.is_blocked(now)]
        for moment in (self._appetite.step_at(now), self._apart.changes_at(now)):
            if moment is not None:
                moments.append(moment)
        if self._executor.backlog.qsize():
            back_at = self._turns.leased_at + _GIVE_BACK_SECONDS
            if back_at <= now:
                self._give_back()
                return 0.0
            moments.append(back_at)
        return max(0.0, min(moments) - now)

    def _is_asked_at_once(self, now: float) -> bool:
        """Some service is to settle what is uncertain, or there is room for what it may have."""
        asked = [service for service in self._services if not service.is_blocked(now)]
        if any(service.uncertain for service in asked):
            return True
        maybe = [service for service in asked if service.tiers.maybe]
        return bool(maybe) and self._appetite.want(now) > 0 and any(service.waiting for service in maybe)

    def _give_back(self) -> None:
        """What lies here and no slot takes may run elsewhere: nothing is reserved that cannot run."""
        for run in self._executor.take_back():
            run.service.give_back(run, first=True)
        self._appetite.forget_speed()

    # What Redis tells meanwhile

    def _arm(self, timeout: float, now: float) -> bool:
        """Have Redis tell of what comes. False when there is no need to sleep any more.

        While this process has work, what is asked for in any case is left out: only what is better is news.
        """
        asked_anyway = [service for service in self._services if service.tiers.maybe]
        alone = asked_anyway[0] if len(asked_anyway) == 1 else None
        if not asked_anyway:
            self._busy_since = 0.0
        elif not self._busy_since:
            self._busy_since = now
        ahead: Ahead | None = None
        if timeout > 0 and self._appetite.want(now) > 0:
            # A short job will be settled before it pays to ask Redis to wait.
            fresh = any(service.held for service in self._services) and not self._waits.armed()
            if fresh and self._sleep(min(timeout, _SHORT_JOB_SECONDS)):
                return False
            ahead = self._tokens.guess(now)
        elif len(self._services) == 1 or not asked_anyway:
            return True
        elif now - self._busy_since < _BUSY_SECONDS:
            self._sleep(min(timeout, _BUSY_SECONDS))
            return False
        if not self._end_deaf(alone):
            return False
        fault = self._waits.arm(ahead, alone)
        if fault is not None and fault.error is not None:
            self._recovery.failed(fault.service, fault.error)
            return False  # asleep without a wait in Redis it would miss every token
        return True

    def _end_deaf(self, alone: Service | None) -> bool:
        """Have Redis end the waits that leave out what matters by now. False when that must be tried again."""
        for wait in self._waits.waits:
            if wait.is_deaf(alone):
                try:
                    ends = wait.end(self._services.link(wait.services[0]))
                except RedisUnavailable as error:
                    self._recovery.failed(wait.services[0], error)
                    return False
                if not ends:
                    self._sleep(_SHORT_JOB_SECONDS)
                    return False
                if not wait.can_end:
                    self._waits.drop()  # it may not be ended, and would stay deaf: from now on waits are short
        return True
