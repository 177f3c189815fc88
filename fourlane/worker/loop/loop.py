"""The worker's loop: one turn after another, for every service that it serves.

1. Settle what finished and lease what fits: one script call for each service that has work (queues/store.py).
2. Hand the jobs to the executor.
3. Wait: for a token in Redis while there is room, for the executor, or for the next moment that was announced
   (a delayed job due, a limit with room again, another worker's silence).
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import dramatiq
from dramatiq.middleware import AsyncIO

from fourlane.errors import RedisUnavailable
from fourlane.meter import meter
from fourlane.names import Queue, Tier
from fourlane.outcome import PLAIN, Back, Done, Outcome
from fourlane.queues import ended
from fourlane.queues.broker import RedisBroker
from fourlane.queues.contact import STEP_SECONDS, Contact
from fourlane.queues.pulse import NEXT_LOOK_SECONDS, SILENCE_MS, idle_look_seconds
from fourlane.queues.redis import Link, is_refusal
from fourlane.queues.refusals import instead_of
from fourlane.queues.store import Leased, Turn
from fourlane.worker.loop.apart import Apart
from fourlane.worker.loop.appetite import Appetite
from fourlane.worker.loop.lane import Lane
from fourlane.worker.loop.order import Shares, late_tiers, next_ask
from fourlane.worker.loop.settling import Settling, gather
from fourlane.worker.loop.waits import Ahead, Waits
from fourlane.worker.run.executor import Executor
from fourlane.worker.run.observer import Observer
from fourlane.worker.run.run import Run
from fourlane.worker.run.tell import tell
from fourlane.worker.run.unknown import Promotion
from fourlane.worker.table import Table

__all__ = ["Loop"]

log = logging.getLogger("fourlane.worker")

_BUSY_LOOK_SECONDS: Final = 1.0
_FRESH_SECONDS: Final = 0.05
_GIVE_BACK_SECONDS: Final = 0.020
_SETTLE_WITHIN_SECONDS: Final = 0.005
_SHORT_JOB_SECONDS: Final = 0.001
_BLOCK_SECONDS: Final = 2.0
_SHORT_CALL_SECONDS: Final = 0.1  # then its reply tells Redis's time well enough
_LEASE_SECONDS: Final = 0.005  # so long a round leases from several services; then it hears what else there is
_LAST_SECONDS: Final = 5.0  # for what is still to be settled when the grace is over
_TAKES_SECONDS: Final = 0.05  # far longer than a thread needs between taking a job and having it in its place
_BUSY_SECONDS: Final = 0.005  # from then on a backlog is worked on, and what other services get must be listened for


class Loop:
    """Runs in the main thread of a worker process."""

    def __init__(
        self,
        broker: RedisBroker,
        queues: list[Queue],
        *,
        name: str,
        slots: int = 8,
        concurrency: int = 1000,
        grace_seconds: float = 25.0,
        log_jobs: bool = False,
        table: Table | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.broker = broker
        self.store = broker.store
        self.grace_seconds = grace_seconds
        self.log_jobs = log_jobs
        self.table = table
        self.observer = observer
        by_service: dict[str, str] = {}
        for queue in sorted(set(queues)):
            by_service[queue.service] = by_service.get(queue.service, "") + str(int(queue.tier))
        self._clustered = self.store.connector.clustered
        contact, now = Contact(time.monotonic()), time.monotonic()
        self.lanes = [
            Lane(service, number, tiers, name, Contact(now) if self._clustered else contact)
            for number, (service, tiers) in enumerate(by_service.items())
        ]
        self.waits = Waits(self.store, self.lanes)
        self.executor = Executor(
            broker,
            self,
            slots=slots,
            concurrency=concurrency,
            table=table,
            worker=name,
            on_low=self.wake,
            observer=observer,
        )
        self.stopping = False
        self._grace_ends_at = 0.0
        self.stop_now = False
        self.turned_at = 0.0
        self.appetite = Appetite(self.executor)
        self._leased_at = 0.0
        self._failures = 0
        self._last_idle_look = 0.0
        self._armed_at = 0.0
        self._ahead: tuple[Lane | None, str] = (None, "")  # where the last job came from, for the next one
        self._cancelled: deque[set[str]] = deque()
        self._lost: deque[tuple[str, str]] = deque()
        self._declared: deque[str] = deque()
        self._unknown: deque[tuple[str, list[str]]] = deque()
        self._promotions: dict[Lane, Promotion] = {}
        self._tells_shutdown = False
        self._asks = self._leased = 0
        self._busy_since = 0.0
        self.shares = Shares()
        self.apart = Apart(self.executor, self.store.crash_limit, table=table)

    # From other threads and from signals --------------------------------------------------------------------

    def finished(self, run: Run, outcome: Outcome) -> None:
        run.ended_at = time.monotonic()
        if run.gated:
            run.leave_gate()
        error = run._exception  # which the turn lets go of
        run.lane.finished.append((run, outcome))
        self.appetite.finished_jobs += 1
        if type(outcome) is not Done or self.log_jobs:
            tell(run, outcome, error, done=self.log_jobs)

    def mislaid(self) -> None:
        for lane in [lane for lane in self.lanes if lane.held]:
            lane.out_of_step, lane.look_at = True, 0.0
        self.wake()

    def wake(self) -> None:
        self.executor.waiting = False
        self.waits.wake()

    def stop(self) -> None:
        """Stop leasing, let what runs end within the grace, give the rest back. A second call stops at once."""
        self.stop_now = self.stopping
        self.stopping = True
        self.wake()

    def told_cancelled(self, job_ids: set[str]) -> None:
        self._cancelled.append(job_ids)
        self.wake()

    def told_lost(self, service: str, name: str) -> None:
        self._lost.append((service, name))
        self.wake()

    def told_declared(self, actor: dramatiq.Actor[Any, Any]) -> None:
        """Its service is to be served."""
        if actor.actor_name != ended.TASK:  # that runs in each service
            self._declared.append(self.broker.queue_of(actor.queue_name).service)
            self.wake()

    def told_unknown(self, service: str, tasks: list[str]) -> None:
        """Others parked jobs of these tasks, which this worker knows."""
        self._unknown.append((service, tasks))
        self.wake()

    def tell_boot(self) -> None:
        """Middleware hears that the worker boots, and later that it stops. Call it before ``run``."""
        for hook in self.broker.hooks("before_worker_boot"):
            own = getattr(hook, "__func__", None) is AsyncIO.before_worker_boot
            self.broker.call_hooks([self.executor.provide_loop if own else hook], (self,), {})
        self._tells_shutdown = True

    # The loop -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.executor.boot()
        self._publish_names()
        while not self.stopping:
            self._listen()
            if self.waits.overdue():
                log.warning("Redis did not end a wait in its time; connecting anew")
                self.waits.drop()
            self._round()
            if not self.stopping:
                self._wait()
        self._drain()

    def _round(self) -> None:
        now = time.monotonic()
        self.appetite.measure(now)
        if self.apart.has_suspects and self.apart.start(now):
            self._leased_at = now
        for lane in [lane for lane in self.lanes if lane.rests]:
            lane.rouse(now)
        for lane in [lane for lane in self.lanes if lane.room_at <= now]:
            self._limits_have_room(lane)
        if self._promotions and not self._promote(now):
            return
        turned = self._lease(now)
        if turned is None:
            return
        for lane, ages in self._due(now):
            if lane not in turned and not self._turn(lane, self._want(), ages=ages):
                return
        self._pass_tokens_on(now)
        self._keep_contact(now)

    def _promote(self, now: float) -> bool:
        """Take what others parked, as far as there is room, to be leased at once. False when Redis did not answer."""
        for lane, promotion in list(self._promotions.items()):
            if promotion.at > now or lane.blocked_until > now or (want := self._want()) <= 0:
                continue
            try:
                found = promotion.take(self._link(lane), want, now)
            except RedisUnavailable as error:
                self._refused_or_failed(lane, error)
                return False
            if found:
                lane.maybe, lane.from_token = set(lane.tiers), False
            if promotion.at == math.inf:
                del self._promotions[lane]
                if promotion.taken:
                    log.info(
                        "promoted service=%s jobs=%d: others did not know their tasks", lane.service, promotion.taken
                    )
        return True

    def _lease(self, now: float) -> set[Lane] | None:
        """Lease by tier and in turn, as far as there is room. Returns who was asked; None when Redis did not answer."""
        turned: set[Lane] = set()
        waiting = [lane for lane in self.lanes if lane.maybe and lane.blocked_until <= now]
        while waiting and (want := self._want()) > 0:
            if turned and time.monotonic() - now >= _LEASE_SECONDS:
                break  # tokens, cancels and looks wait; the next round goes on with those whose turn it is
            ask = next_ask(waiting, want, self.shares)
            if ask is None:
                break
            lane: Lane = ask.service
            known, leased = len(lane.maybe), self._leased
            ages = ask.first != "" or lane.asks_ages_at(min(lane.maybe)) <= now
            if not self._turn(lane, ask.want, first=ask.first, down_to=ask.down_to, ages=ages):
                return None
            turned.add(lane)
            self._asks += 1
            if self._leased > leased:
                lane.served = self._asks
            nothing_new = (known, leased) == (len(lane.maybe), self._leased)
            # Once in a round, but for tiers that it was not asked for: some jobs more end until the next.
            if ask.down_to == "9" or nothing_new or not lane.maybe or lane.out_of_step:
                waiting.remove(lane)
        return turned

    def _due(self, now: float) -> list[tuple[Lane, bool]]:
        """The services that want a turn, whether or not there is room for their jobs; and whether to ask the ages."""
        settles = not self._settles_with_next_lease(now)
        asks_ages = {lane for lane, moment in self._ages_at() if moment <= now}
        return [
            (lane, lane in asks_ages)
            for lane in self.lanes
            if lane.blocked_until <= now
            and ((settles and lane.finished) or lane.uncertain or lane in asks_ages or lane.time_has_come(now))
        ]

    def _ages_at(self) -> list[tuple[Lane, float]]:
        """When to ask services how long their tiers have waited that something better is before."""
        waiting = [lane for lane in self.lanes if lane.maybe]
        best = min((lane.waiting[0] for lane in waiting if lane.waiting), default="9")
        return [(lane, lane.asks_ages_at(best)) for lane in waiting]

    def _limits_have_room(self, lane: Lane) -> None:
        lane.room_at = math.inf
        lane.maybe = set(lane.tiers)
        if self._want() <= 0 and lane.others:
            for tier in lane.tiers:  # this worker is full; an idle one does not know of the moment
                self._pass_on(lane, tier)

    def _pass_tokens_on(self, now: float) -> None:
        """What was announced here and no slot took is another worker's."""
        for lane in [lane for lane in self.lanes if lane.pass_on]:
            for tier in [tier for tier, at in lane.pass_on.items() if at <= now]:
                del lane.pass_on[tier]
                self._pass_on(lane, tier)

    def _keep_contact(self, now: float) -> None:
        """Who watches others must hear from Redis all the time, for only then is their silence proof of anything."""
        for lane in [lane for lane in self.lanes if lane.watches]:
            if now - lane.contact.heard_at >= STEP_SECONDS:
                try:
                    self._link(lane).command("PING")
                except RedisUnavailable as error:
                    self._failed(lane, error)
                    return
                lane.contact.heard(time.monotonic())

    def _settles_with_next_lease(self, now: float) -> bool:
        """The next job is leased in a moment: one turn for both."""
        step_at = self.appetite.step_at(now)
        return step_at is not None and step_at - now <= _SETTLE_WITHIN_SECONDS

    def _want(self) -> int:
        if self.stopping or self.apart.wants_room():
            return 0
        return self.appetite.want(time.monotonic())

    # One turn -----------------------------------------------------------------------------------------------

    def _turn(self, lane: Lane, want: int, *, first: str = "", down_to: str = "9", ages: bool = False) -> bool:
        """Settle what finished and lease what fits. False when Redis did not answer, or refused."""
        if lane.out_of_step and not self._resync(lane):
            return False
        now = time.monotonic()
        settling = gather(lane)
        if lane.most_settled:
            want = 0  # Redis refused: it is to say what it refuses
        self._tell_ended(lane, settling, now)
        settled = settling.size
        flags = lane.flags(now, want, lane.held > settled, ages)
        tiers = lane.asked_tiers(flags, down_to)
        counts = "k" in flags or lane.tally.is_due(now)
        try:
            turn = self.store.turn(
                self._link(lane),
                lane.service,
                lane.name,
                flags=flags,
                silence_ms=SILENCE_MS,
                idle_silence_ms=int(3_000 * self._idle_look()),
                held=max(0, lane.held - settled),
                done_before=lane.tally.words() if counts else "",
                done=settling.done,
                others=settling.others,
                want=max(0, want),
                tiers=tiers,
                first=first,
            )
        except RedisUnavailable as error:
            # Whether the script ran is not known: what was settled is offered again, and _resync asks what we hold.
            lane.uncertain = settling.again() + lane.uncertain
            lane.out_of_step = True
            self._refused_or_failed(lane, error, settling)
            return False
        self._failures = 0
        lane.most_settled *= 2
        if lane.most_settled > settled * 2:
            lane.most_settled = 0  # all that was there passed
        lane.held = max(0, lane.held - settled + len(turn.faults))
        if not turn.lost:
            if counts:
                lane.tally.told()
            self._count_done(lane, settling, turn)
        self.turned_at = now
        heard_at = time.monotonic()
        lane.contact.heard(heard_at)
        if turn.now_ms and heard_at - now < _SHORT_CALL_SECONDS:
            self.store.clock.learn(turn.now_ms, now, heard_at)
        meter.count("turns", (lane.service,))
        self._take_in(lane, turn, now, flags, want, tiers, first)
        for entry, why in turn.faults:
            self._settle_otherwise(lane, entry, dict(settling.others)[entry], why)
        return not turn.lost

    def _count_done(self, lane: Lane, settling: Settling, turn: Turn) -> None:
        """What the turn did not take was not done, or is offered again."""
        unsettled = {*turn.refused, *(entry for entry, _ in turn.faults)}
        if not unsettled:
            lane.tally.add(settling.done, settling.others)
        else:
            lane.tally.add((), [pair for pair in settling.again() if pair[0] not in unsettled])

    def _tell_ended(self, lane: Lane, settling: Settling, now: float) -> None:
        if settling.ended:
            self.appetite.ran(settling.ended[-1][0], now)
            if self.observer is not None:
                self.observer.turned(lane.service, settling.ended)
                for run, outcome in settling.ended:
                    if outcome is not PLAIN:
                        run.let_go()
            settling.ended.clear()  # kept over the turn they would cost the garbage collector more than the count
        if settling.stale:
            self._count_stale(lane, len(settling.stale))
        for run in settling.stale:
            run.let_go()
            log.warning("stale job=%s task=%s: its lease was lost, it runs again", run.id, run.plan.name)

    def _count_stale(self, lane: Lane, number: int) -> None:
        meter.count("stale_acks", (lane.service,), number)
        key = self.store.service(lane.service).stats
        try:
            self.store.connector.command(key, "HINCRBY", key, "stale", number)
        except RedisUnavailable as error:
            log.warning("%s", error)

    def _link(self, lane: Lane) -> Link:
        """One connection for all services, but in a cluster one for each."""
        keeper = lane if self._clustered else self.lanes[0]
        if keeper.link is None:
            keeper.link = self.store.connector.open(self.store.service(lane.service).jobs)
        return keeper.link

    def _take_in(self, lane: Lane, turn: Turn, now: float, flags: str, want: int, tiers: str, first: str = "") -> None:
        if self.table is not None:  # before any of these jobs begins: from now on the supervisor beats for them
            self._publish(lane, now, len(turn.jobs))
        if turn.lost:
            self._lose(lane)
            return
        if turn.off:
            log.warning("out of step: Redis says that %s holds other jobs than it knows", lane.name)
            lane.out_of_step = True
            lane.look_at = now
        controlled = lane.controlled
        lane.learn(turn, flags, now)
        if turn.refused:
            meter.count("stale_acks", (lane.service,), len(turn.refused))
            log.warning("stale %d settlement(s) of %s refused: the leases were lost", len(turn.refused), lane.service)
            lane.beaten_at = 0.0  # to Redis this worker may be gone: it tells of itself with the next lease
        if turn.dropped:
            log.warning("dropped %d old dead letter(s) of %s: over their number or age", turn.dropped, lane.service)
        if turn.workers != -2:
            self._next_look(lane, turn, now)
        if want > 0:
            lane.leased(tiers + first[:1], turn.more)
            self._count_shares(first, turn.jobs)
            self.appetite.leased(want, len(turn.jobs), any(other.maybe for other in self.lanes), now)
        if turn.jobs:
            lane.held += len(turn.jobs)
            self._leased += len(turn.jobs)
            self._leased_at = now
            jobs = turn.jobs
            if any(leased.crashes for leased in jobs):
                jobs = self.apart.divide(lane, jobs, now)
            if jobs:
                self.appetite.started(len(jobs), self.executor.start(lane, jobs))
        # These ask Redis more, which may last: after the jobs have begun.
        if lane.controlled and not controlled:
            self._rebuild_slots(lane)
        for name in turn.expired:
            self._reclaim(lane, name)

    def _publish(self, lane: Lane, now: float, leased: int) -> None:
        assert self.table is not None
        self.table.publish_held(lane.number, lane.held + leased)
        self.table.publish(now, sum(other.held for other in self.lanes) + leased, self.appetite.finished_jobs)

    def _count_shares(self, first: str, jobs: Sequence[Leased]) -> None:
        """Jobs were leased: what tiers past their target got of it, and what they are owed for it."""
        if not jobs or not (first or any(lane.late for lane in self.lanes)):
            return
        paid = 0
        if first:
            tier, _, due = first.partition(":")
            paid = min(int(due), sum(leased.entry[0] == tier for leased in jobs))
            self.shares.paid(tier, paid)
        if len(jobs) > paid:
            best = min(leased.entry[0] for leased in jobs)
            self.shares.leased(len(jobs) - paid, late_tiers(self.lanes, best))

    def _settle_otherwise(self, lane: Lane, entry: str, outcome: Outcome, why: str) -> None:
        """Redis refused to write how this job ended (queues/refusals.py). The way back waits a while."""
        log.error("job=%s service=%s: Redis refused how it ended: %s", entry.partition("|")[0], lane.service, why)
        instead = instead_of(outcome, why)
        lane.uncertain.append((entry, instead))
        if type(instead) is Back:
            lane.block(time.monotonic() + _BLOCK_SECONDS)

    def _next_look(self, lane: Lane, turn: Turn, now: float) -> None:
        seconds = _BUSY_LOOK_SECONDS if lane.held or turn.jobs else self._seconds_to_idle_look(now)
        if 0 <= turn.expires_in < seconds * 1000:
            seconds = turn.expires_in / 1000 + 0.01
        lane.look_at = now if turn.due_in == 0 else now + seconds

    def _seconds_to_idle_look(self, now: float) -> float:
        """The services are looked at one after the other, so that the process is heard of all the time."""
        if len(self.lanes) == 1:
            return self._idle_look()
        self._last_idle_look = min(max(now, self._last_idle_look) + NEXT_LOOK_SECONDS, now + self._idle_look())
        return self._last_idle_look - now

    def _idle_look(self) -> float:
        return idle_look_seconds(len(self.lanes))

    def _rebuild_slots(self, lane: Lane) -> None:
        """Once this worker knows of a limit, what it leased before must count too."""
        from fourlane.queues import control

        try:
            control.rewrite(self.store, lane.service)
        except RedisUnavailable as error:
            log.warning("%s", error)
            lane.controlled = False

    def _reclaim(self, lane: Lane, name: str) -> None:
        now = time.monotonic()
        proof_at = lane.contact.whole_silence_at(now)
        if proof_at > now:  # it may be Redis that was silent
            lane.watches = True
            lane.look_at = min(lane.look_at, proof_at + 0.01)
            return
        try:
            back, poisoned = self.store.reclaim(lane.service, name, f"worker {name} fell silent")
        except RedisUnavailable as error:
            log.warning("%s", error)
            return
        if back or poisoned:
            log.warning("reclaimed service=%s worker=%s jobs=%d poison=%d", lane.service, name, back, len(poisoned))
        lane.maybe = set(lane.tiers)

    def _lose(self, lane: Lane) -> None:
        """Our leases ran out: what runs here runs elsewhere too, and its end does not count."""
        late = [run for run in self.executor.in_hand() if run.lane is lane]
        for run in self.executor.take_back():
            if run.lane is not lane:
                self.executor.backlog.put(run)
        self.apart.forget(lane)
        if self.waits.asks_ahead_for(lane):
            self.waits.drop()  # what would be leased by it would be under the lost name
        lane.begin_anew()
        if self.table is not None:
            self.table.publish_held(lane.number, 0)
        self._publish_names()
        self._tell_lost(lane, late)

    def _tell_lost(self, lane: Lane, runs: list[Run]) -> None:
        meter.count("leases_lost", (lane.service,))
        log.warning("lost service=%s worker=%s: %d running job(s) will not count", lane.service, lane.name, len(runs))
        self.executor.lease_lost(runs)

    def _refused_or_failed(self, lane: Lane, error: RedisUnavailable, settling: Settling | None = None) -> None:
        if not is_refusal(error):
            self._failed(lane, error)
        elif settling is None or not settling.size:
            self._block(lane, error)
        elif settling.size == lane.most_settled == 1:
            entry, outcome = lane.uncertain.pop(0)
            self._settle_otherwise(lane, entry, outcome, str(error))
        else:
            # One of them may be what Redis does not take: fewer at once, until it is known which.
            lane.most_settled = max(1, settling.size // 2)
            log.warning("service=%s: %s; settling %d at once", lane.service, error, lane.most_settled)

    def _block(self, lane: Lane, error: RedisUnavailable) -> None:
        """Redis answered this service with an error, such as a key of the wrong type. The others go on."""
        log.error("service=%s blocked for %g s: %s", lane.service, _BLOCK_SECONDS, error)
        lane.block(time.monotonic() + _BLOCK_SECONDS)

    def _failed(self, lane: Lane, error: RedisUnavailable) -> None:
        """Redis did not answer. Wait longer each time; what finished meanwhile is kept."""
        lane.contact.broke(time.monotonic())
        self._failures += 1
        pause = min(2.0, 0.05 * 2 ** min(self._failures, 6))
        if self._failures in (1, 10) or self._failures % 100 == 0:
            log.warning("%s; trying again", error)
        self.waits.drop()
        keeper = lane if self._clustered else self.lanes[0]
        if keeper.link is not None:
            keeper.link.close()
            keeper.link = None  # in a cluster another node may be the one to ask
        deadline = time.monotonic() + pause
        while not self.stop_now and (left := deadline - time.monotonic()) > 0:
            self.waits.sleep_deaf(left)
        try:
            self.store.connector.refresh()
        except RedisUnavailable as again:
            log.debug("%s", again)
        lane.maybe = set(lane.tiers)

    def _resync(self, lane: Lane) -> bool:
        """After a lost reply: give back what Redis says we hold and we never received. False when it fails too."""
        lane.out_of_step = False
        # Before Redis is asked: a thread that just takes a job has it in hand until Redis has answered.
        waiting = self.executor.take_back()
        fault: RedisUnavailable | None = None
        held: set[str] = set()
        try:
            held = self.store.held(lane.service, lane.name)
        except RedisUnavailable as error:
            fault = error
        for run in waiting:
            if fault is not None or run.lane is not lane or run.leased.entry in held:  # else it runs elsewhere
                self.executor.backlog.put(run)
        if fault is not None:
            lane.out_of_step = True
            self._refused_or_failed(lane, fault)
            return False
        lost = [run for run in self._in_hand(lane) if run.leased.entry not in held]
        if lost:
            self._tell_lost(lane, lost)
        self.apart.forget(lane, but=held)
        lane.uncertain = [(entry, outcome) for entry, outcome in lane.uncertain if entry in held]
        strangers = held - {entry for entry, _ in lane.uncertain} - {run.leased.entry for run in waiting}
        strangers -= self._known(lane)
        if strangers:
            time.sleep(_TAKES_SECONDS)  # a thread that is just taking a job has it in no place for a moment
            strangers -= self._known(lane)
        lane.uncertain += [(entry, Back()) for entry in strangers]
        lane.held = len(held)
        return True

    def _in_hand(self, lane: Lane) -> list[Run]:
        return [run for run in self.executor.in_hand() if run.lane is lane and run.epoch == lane.epoch]

    def _known(self, lane: Lane) -> set[str]:
        """What this process has of a service besides its backlog, read in the order in which runs move."""
        known = {run.leased.entry for run in self._in_hand(lane)}
        known |= {run.leased.entry for run, _ in list(lane.finished) if run.epoch == lane.epoch}
        return known | self.apart.held(lane)

    # Wait ---------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        executor = self.executor
        executor.low = executor.backlog.qsize() // 2
        executor.waiting = True
        timeout = self._timeout()
        now = time.monotonic()
        ready = any(lane.finished and lane.blocked_until <= now for lane in self.lanes)
        if ready and not self._settles_with_next_lease(now) and executor.backlog.qsize() <= executor.low:
            timeout = 0.0
        if self._arm(timeout, now):
            pause_until = None if self.observer is None else self.observer.pause(now)
            if pause_until is not None:
                timeout = max(0.0, min(timeout, pause_until - now))
            answer_by = self.waits.answer_by()
            self._sleep(timeout if answer_by is None else max(0.0, min(timeout, answer_by - time.monotonic())))
        executor.waiting = False

    def _arm(self, timeout: float, now: float) -> bool:
        """Have Redis tell of what comes. False when there is no need to sleep any more.

        While this process has work, what is asked for in any case is left out: only what is better is news.
        """
        asked_anyway = [lane for lane in self.lanes if lane.maybe]
        alone = asked_anyway[0] if len(asked_anyway) == 1 else None
        if not asked_anyway:
            self._busy_since = 0.0
        elif not self._busy_since:
            self._busy_since = now
        want = self._want() if timeout > 0 else 0
        ahead: Ahead | None = None
        if want > 0:
            # A short job will be settled before it pays to ask Redis to wait.
            fresh = any(lane.held for lane in self.lanes) and not self.waits.armed()
            if fresh and self._sleep(min(timeout, _SHORT_JOB_SECONDS)):
                return False
            lane, tier = self._ahead
            if lane is not None and not lane.out_of_step and lane.blocked_until <= now:
                ahead = Ahead(lane, tier, min(2, self._want()))
        elif len(self.lanes) == 1 or not asked_anyway:
            return True
        elif now - self._busy_since < _BUSY_SECONDS:
            self._sleep(min(timeout, _BUSY_SECONDS))
            return False
        try:
            for wait in self.waits.waits:
                if wait.is_deaf(alone):
                    if not wait.end(self._link(wait.lanes[0])):
                        self._sleep(_SHORT_JOB_SECONDS)
                        return False
                    if not wait.can_end:
                        self.waits.drop()  # it may not be ended, and would stay deaf: from now on waits are short
        except RedisUnavailable as error:
            self._failed(wait.lanes[0], error)
            return False
        if not self.waits.armed():
            self._armed_at = now
        fault = self.waits.arm(ahead, alone)
        if fault is not None and fault.error is not None:
            self._failed(fault.lane, fault.error)
            return False  # asleep without a wait in Redis it would miss every token
        return True

    def _timeout(self) -> float:
        now = time.monotonic()
        lanes = self.lanes
        moments = [lane.blocked_until for lane in lanes if lane.blocked_until > now]
        if moments:
            lanes = [lane for lane in lanes if lane.blocked_until <= now]
        if lanes:
            moments += [min([lane.look_at for lane in lanes]), min([lane.due_at for lane in lanes])]
            moments += [min([lane.beat_by for lane in lanes]), min([lane.room_at for lane in lanes])]
            moments.append(min([lane.busy_look_at for lane in lanes]))
        maybe = [lane for lane in lanes if lane.maybe]
        if maybe:
            if self._want() > 0 and any(lane.waiting for lane in maybe):
                return 0.0
            moments += [moment for lane, moment in self._ages_at() if lane.blocked_until <= now]
        for lane in [lane for lane in self.lanes if lane.pass_on or lane.watches or lane.rests]:
            moments += [*lane.pass_on.values(), *lane.rests.values()]
            if lane.watches:
                moments.append(lane.contact.heard_at + STEP_SECONDS)
        if self._promotions and self._want() > 0:
            moments += [promotion.at for promotion in self._promotions.values()]
        step_at = self.appetite.step_at(now)
        if step_at is not None:
            moments.append(step_at)
        alone_until = self.apart.changes_at(now)
        if alone_until is not None:
            moments.append(alone_until)
        if [lane for lane in lanes if lane.uncertain]:
            return 0.0
        if self.executor.backlog.qsize():
            moments.append(self._leased_at + _GIVE_BACK_SECONDS)
            if now - self._leased_at >= _GIVE_BACK_SECONDS:
                self._give_back()
                return 0.0
        return max(0.0, min(moments) - now)

    def _give_back(self) -> None:
        """What lies here and no slot takes may run elsewhere: nothing is reserved that cannot run."""
        for run in self.executor.take_back():
            run.lane.finished.appendleft((run, Back()))
        self.appetite.forget_speed()

    def _sleep(self, seconds: float) -> bool:
        """True when something happened."""
        heard = self.waits.sleep(seconds)
        for lane, token, error, turn, ahead, refused in heard or ():
            if turn is not None and ahead is not None:
                self._take_ahead(ahead, turn)
            if error is not None and not refused:
                self._failed(lane, error)
                continue
            lane.contact.heard(time.monotonic())
            if error is not None:
                self._hears_nothing(refused, error)
            elif token:
                led_to_turn = turn is not None and ahead is not None and (lane, token) == (ahead.lane, ahead.tier)
                self._take_token(lane, token, led_to_turn=led_to_turn)
            elif turn is not None and not turn.jobs:
                self._ahead = (None, "")  # nothing came for as long as a wait lasts: no need to ask each time
        return heard is not None

    def _hears_nothing(self, lanes: Sequence[Lane], error: RedisUnavailable) -> None:
        """Redis refuses to wait for some keys of these: they are left out for a while, so look instead."""
        for lane in lanes:
            log.error("service=%s: jobs are found late, by looks: %s", lane.service, error)
            lane.maybe = set(lane.tiers)
            lane.look_at = 0.0

    def _take_token(self, lane: Lane, token: str, *, led_to_turn: bool) -> None:
        now = time.monotonic()
        if token == "d":
            lane.look_at = 0.0
        elif token in ("w", "v"):
            self._take_watch(lane, token, now)
        elif led_to_turn:
            pass  # that was its token
        elif self._want() > 0 and token not in lane.rests:
            self._ahead = (lane, token)
            # The wait gives the highest tier's token first: right now nothing is known of higher ones.
            lane.from_token = not lane.maybe
            lane.maybe.add(token)
        else:
            lane.maybe.add(token)
            lane.pass_on[token] = now + (_GIVE_BACK_SECONDS if self.appetite.slot_soon() else 0.0)

    def _take_ahead(self, ahead: Ahead, turn: Turn) -> None:
        """Take what a turn gave that was asked ahead."""
        lane, now = ahead.lane, time.monotonic()
        if turn.jobs and (self._want() <= 0 or lane.out_of_step or self._is_old(turn)):
            # What made it want them has changed meanwhile, or they may be another's by now.
            lane.held += len(turn.jobs)
            lane.uncertain += [(leased.entry, Back()) for leased in turn.jobs]
            return
        maybe = lane.maybe
        self.turned_at = now
        if turn.jobs and not turn.now_ms and (lane.beaten_idle or now - lane.beaten_at >= 1.0):
            lane.beat_by = now + _SHORT_JOB_SECONDS
        self._take_in(lane, turn, now, "a", max(1, len(turn.jobs)), ahead.tier)
        lane.maybe |= maybe

    def _is_old(self, turn: Turn) -> bool:
        """Its leases may have run out: it lay unread for long, and nobody beat for what nobody here knew of."""
        return turn.now_ms > 0 and self.store.clock.now_ms() - turn.now_ms > SILENCE_MS / 2

    def _pass_on(self, lane: Lane, token: str) -> None:
        """No slot is free here: another worker shall have it."""
        try:
            self.store.wake(lane.service, int(token))
        except RedisUnavailable as error:
            log.warning("%s", error)

    def _take_watch(self, lane: Lane, token: str, now: float) -> None:
        """Who holds leases looks without being told, and this may be its own word: one that holds none shall have it.
        Two of those, for one of them may die with the one that told."""
        lane.told_at = 0.0  # its own word would be gone then: it is given again with the next lease
        if not lane.held:
            if now - self._armed_at > _FRESH_SECONDS:
                lane.watch(now)
            else:
                lane.look_at = now  # the token was there before: what it tells of may be old
            if token == "v":
                return
            token = "v"
        lane.hand_watch_on(now)
        try:
            self.store.have_watched(lane.service, token)
        except RedisUnavailable as error:
            log.warning("%s", error)

    # Stop ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while self._cancelled:
            job_ids = self._cancelled.popleft()
            self.executor.cancel(job_ids)
            self.apart.cancel(job_ids)
        while self._lost:
            service, name = self._lost.popleft()
            for lane in self.lanes:
                if (lane.service, lane.name) == (service, name) and lane.held:
                    lane.look_at = 0.0  # Redis says whether that is so still: what is held by now may be newer
        while self._declared:
            self._serve(self._declared.popleft())
        while self._unknown:
            service, tasks = self._unknown.popleft()
            for lane in [lane for lane in self.lanes if lane.service == service]:
                self._promotions[lane] = Promotion(self.store, service, "".join(lane.tiers), tasks)

    def _serve(self, service: str) -> None:
        """One more service."""
        if self.stopping or any(lane.service == service for lane in self.lanes):
            return
        contact = Contact(time.monotonic()) if self._clustered else self.lanes[0].contact
        tiers = "".join(str(int(tier)) for tier in Tier)
        lane = Lane(service, len(self.lanes), tiers, self.lanes[0].base_name, contact)
        self.lanes.append(lane)
        self.waits.add(lane)
        self._publish_names()
        log.info("serving service=%s too: it was declared since the start", service)

    def _drain(self) -> None:
        """A deploy is not a failure (DESIGN.md 3.5)."""
        self.waits.drop()
        for run in self.executor.take_back():
            run.lane.finished.append((run, Back()))
        self.apart.give_back()
        deadline = self._grace_ends_at = time.monotonic() + self.grace_seconds
        self.executor.tell_shutdown()
        if self._tells_shutdown:
            self.broker.emit_before("worker_shutdown", self)
        while True:
            self._listen()
            for lane in self.lanes:
                if (lane.finished or lane.uncertain) and lane.blocked_until <= time.monotonic():
                    self._turn(lane, 0)
            running = self.executor.running()
            if self.stop_now or not running or time.monotonic() >= deadline:
                break
            self.executor.waiting, self.executor.low = True, 0
            now = time.monotonic()
            ready = any(lane.finished and lane.blocked_until <= now for lane in self.lanes)
            self.waits.sleep_deaf(0 if ready else max(0.0, min(0.5, deadline - now)))
        self._abandon()
        self._settle_last()
        self._leave()
        self.executor.close()
        if self.observer is not None:
            self.observer.close()

    def _abandon(self) -> None:
        """Give back what did not end within the grace."""
        for run in self.executor.abandon():
            log.warning("given-back job=%s task=%s: it did not end within the grace", run.id, run.plan.name)
            run.lane.finished.append((run, Back()))

    def _settle_last(self) -> None:
        """Settle all that is left, as far as Redis takes it in a few seconds."""
        deadline = time.monotonic() + _LAST_SECONDS
        while left := [lane for lane in self.lanes if lane.finished or lane.uncertain]:
            now = time.monotonic()
            if now >= deadline:
                return
            ready = [lane for lane in left if lane.blocked_until <= now]
            if not ready:
                self.waits.sleep_deaf(max(0.0, min(deadline, min(lane.blocked_until for lane in left)) - now))
            for lane in ready:
                if time.monotonic() < deadline and not self._turn(lane, 0):
                    self.waits.sleep_deaf(_GIVE_BACK_SECONDS)

    def _leave(self) -> None:
        """Say so to Redis, unless it is away: each try lasts some seconds."""
        deadline = time.monotonic() + _LAST_SECONDS
        for lane in self.lanes:
            try:
                self.store.leave(lane.service, lane.name, lane.tally.words())
            except RedisUnavailable as error:
                log.warning("%s; its jobs come back when its silence is noticed", error)
                may_differ = is_refusal(error) or self._clustered
                if not may_differ or time.monotonic() >= deadline:
                    return

    def grace_left(self) -> float:
        """Seconds of the grace that are left after ``run``; less than 0 when it is over."""
        return self._grace_ends_at - time.monotonic()

    def _publish_names(self) -> None:
        if self.table is not None:
            self.table.publish_names({lane.service: lane.name for lane in self.lanes})
