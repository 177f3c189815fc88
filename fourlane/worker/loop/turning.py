"""One turn of one service: gather what ended, ask Redis, take in what it tells."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from fourlane.errors import RedisUnavailable
from fourlane.outcome import PLAIN
from fourlane.queues.beat import NEXT_LOOK_SECONDS, idle_look_seconds
from fourlane.queues.store import Store
from fourlane.queues.turn import Ask, First, Leased, Turn
from fourlane.telling import Ends, tell
from fourlane.worker.loop.apart import Apart
from fourlane.worker.loop.appetite import Appetite
from fourlane.worker.loop.asking import what_to_ask
from fourlane.worker.loop.leases import Leases
from fourlane.worker.loop.order import Shares, late_tiers
from fourlane.worker.loop.recovery import Recovery
from fourlane.worker.loop.service import Service
from fourlane.worker.loop.services import Services
from fourlane.worker.loop.settling import Settling, gather
from fourlane.worker.loop.watching import Watching
from fourlane.worker.run.executor import Executor

__all__ = ["Turns"]

log = logging.getLogger("fourlane.worker")

_BUSY_LOOK_SECONDS: Final = 1.0
_SHORT_CALL_SECONDS: Final = 0.1  # then its reply tells Redis's time well enough


class Turns:
    """Takes turns, and keeps what they taught."""

    def __init__(
        self,
        store: Store,
        services: Services,
        executor: Executor,
        *,
        appetite: Appetite,
        apart: Apart,
        recovery: Recovery,
        leases: Leases,
        watching: Watching,
    ) -> None:
        self.shares = Shares()
        self.turned_at = 0.0
        """When the last turn began that Redis answered."""
        self.leased = 0
        """Jobs that all turns gave."""
        self.leased_at = 0.0
        """When jobs last came into the executor's backlog."""
        self._store = store
        self._services = services
        self._executor = executor
        self._appetite = appetite
        self._apart = apart
        self._recovery = recovery
        self._leases = leases
        self._watching = watching
        self._last_idle_look = 0.0

    def take(
        self, service: Service, want: int, *, first: First | None = None, down_to: str = "9", ages: bool = False
    ) -> bool:
        """Settle what finished and lease what fits. False when Redis did not answer, or refused."""
        if service.out_of_step and not self._leases.resync(service):
            return False
        now = time.monotonic()
        settling = gather(service)
        self._tell_ended(service, settling, now)
        ask = what_to_ask(
            service, now, want=want, settles=settling.size, first=first, down_to=down_to, ages=ages,
            idle_silence_ms=int(3_000 * self._idle_look()),
        )  # fmt: skip
        try:
            turn = self._ask(service, ask, settling, now)
        except RedisUnavailable as error:
            # Whether the script ran is not known: what was settled is offered again, and resync asks what we hold.
            service.settle_first(settling.again())
            service.fall_out_of_step()
            self._recovery.refused_or_failed(service, error, settling)
            return False
        self._recovery.answered()
        service.settled(settling.size, len(turn.faults))
        self._learn_time(service, turn, now)
        tell.counted("turns", (service.name,))
        self.take_in(service, turn, ask, now)
        for entry, why in turn.faults:
            self._recovery.settle_otherwise(service, entry, dict(settling.others)[entry], why)
        return not turn.lost

    def _ask(self, service: Service, ask: Ask, settling: Settling, now: float) -> Turn:
        tally = service.tally
        counts = ask.look or tally.is_due(now)
        turn = self._store.turn(
            self._services.link(service),
            service.name,
            service.lease_name,
            ask,
            done=settling.done,
            others=settling.others,
            done_before=tally.words() if counts else "",
        )
        if not turn.lost:
            if counts:
                tally.told()
            # What the turn did not take was not done, or is offered again.
            unsettled = {*turn.refused, *(entry for entry, _ in turn.faults)}
            if not unsettled:
                tally.add(settling.done, settling.others)
            else:
                tally.add((), [pair for pair in settling.again() if pair[0] not in unsettled])
        return turn

    def _tell_ended(self, service: Service, settling: Settling, now: float) -> None:
        if settling.ended:
            self._appetite.ran(settling.ended[-1][0], now)
            if "turned" in tell.heard:
                tell.turned(Ends(service.name, settling.ended))
                for run, outcome in settling.ended:
                    if outcome is not PLAIN:
                        run.let_go()
            settling.ended.clear()  # kept over the turn they would cost the garbage collector more than the count
        if settling.stale:
            self._leases.count_stale(service, settling.stale)

    def _learn_time(self, service: Service, turn: Turn, asked_at: float) -> None:
        self.turned_at = asked_at
        heard_at = time.monotonic()
        service.contact.heard(heard_at)
        if turn.now_ms and heard_at - asked_at < _SHORT_CALL_SECONDS:
            self._store.clock.learn(turn.now_ms, asked_at, heard_at)

    # What it told

    def take_in_ahead(self, service: Service, turn: Turn, ask: Ask, now: float) -> None:
        """A turn that was asked ahead. It knew nothing of what is known by now."""
        maybe = service.tiers.maybe
        self.turned_at = now
        self.take_in(service, turn, msgspec.structs.replace(ask, want=max(1, len(turn.jobs))), now)
        service.tiers.know(maybe)

    def take_in(self, service: Service, turn: Turn, ask: Ask, now: float) -> None:
        """Learn from it, and have its jobs begin."""
        # Before any of these jobs begins: from now on the supervisor beats for them.
        self._services.publish_leased(service, len(turn.jobs), now=now, finished=self._appetite.finished_jobs)
        if turn.lost:
            self._leases.lose(service)
            return
        controlled = service.controlled
        service.learn(turn, ask, now)
        self._warn(service, turn)
        if turn.workers is not None:
            self._plan_next_look(service, turn, now)
        if turn.off:
            log.warning("out of step: Redis says that %s holds other jobs than it knows", service.lease_name)
            service.fall_out_of_step()
        if ask.want > 0:
            service.tiers.tried(ask.tried, turn.more)
            self._count_shares(ask.first, turn.jobs)
            more_waits = any(other.tiers.maybe for other in self._services)
            self._appetite.leased(ask.want, len(turn.jobs), more_waits, now)
        if turn.jobs:
            self._begin(service, turn.jobs, now)
        # These ask Redis more, which may last: after the jobs have begun.
        if service.controlled and not controlled:
            self._leases.count_against_limits(service)
        for name in turn.expired:
            self._watching.reclaim(service, name)

    def _warn(self, service: Service, turn: Turn) -> None:
        if turn.refused:
            tell.refused(service.name, len(turn.refused))
            service.agenda.doubt_beat()
        if turn.dropped:
            tell.dropped(service.name, turn.dropped)

    def _begin(self, service: Service, jobs: list[Leased], now: float) -> None:
        service.leased(jobs)
        self.leased += len(jobs)
        self.began(now)
        if any(leased.crashes for leased in jobs):
            jobs = self._apart.divide(service, jobs, now)
        if jobs:
            self._appetite.started(len(jobs), self._executor.start(service, jobs))

    def began(self, now: float) -> None:
        """Jobs came into the backlog."""
        self.leased_at = now

    def _count_shares(self, first: First | None, jobs: Sequence[Leased]) -> None:
        """Jobs were leased: what tiers past their target got of it, and what they are owed for it."""
        if not jobs or not (first or any(service.late for service in self._services)):
            return
        paid = 0
        if first is not None:
            paid = min(first.most, sum(leased.entry[0] == first.tier for leased in jobs))
            self.shares.paid(first.tier, paid)
        if len(jobs) > paid:
            best = min(leased.entry[0] for leased in jobs)
            self.shares.leased(len(jobs) - paid, late_tiers(self._services, best))

    # When to look next

    def _plan_next_look(self, service: Service, turn: Turn, now: float) -> None:
        seconds = _BUSY_LOOK_SECONDS if service.held or turn.jobs else self._seconds_to_idle_look(now)
        if turn.expires_in is not None and turn.expires_in < seconds * 1000:
            seconds = turn.expires_in / 1000 + 0.01
        service.agenda.look_next(now if turn.due_in == 0 else now + seconds)

    def _seconds_to_idle_look(self, now: float) -> float:
        """The services are looked at one after the other, so that the process is heard of all the time."""
        if len(self._services) == 1:
            return self._idle_look()
        self._last_idle_look = min(max(now, self._last_idle_look) + NEXT_LOOK_SECONDS, now + self._idle_look())
        return self._last_idle_look - now

    def _idle_look(self) -> float:
        return idle_look_seconds(len(self._services))
