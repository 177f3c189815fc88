"""The worker's loop: one turn after another, for every service that it serves.

1. Settle what finished and lease what fits: one script call for each service that has work (queues/store.py).
2. Hand the jobs to the executor.
3. Wait: for a token in Redis while there is room, for the executor, or for the next moment that was announced
   (a delayed job due, a limit with room again, another worker's silence).
"""

from __future__ import annotations

import logging
import os
import selectors
import time
from collections import deque
from typing import Any, Final

from fourlane.errors import RedisUnavailable
from fourlane.names import Queue
from fourlane.outcome import Back, Cancel, Dead, Done, Outcome, Postpone, Retry
from fourlane.queues.broker import RedisBroker
from fourlane.queues.connection import Link, is_refusal
from fourlane.queues.store import Leased, Turn
from fourlane.worker.executor import Executor, Run
from fourlane.worker.table import Table

__all__ = ["Loop"]

log = logging.getLogger("fourlane.worker")

SILENCE_MS: Final = 5_000
_BEAT_SECONDS: Final = 1.5
_IDLE_LOOK_SECONDS: Final = 25.0
_BUSY_LOOK_SECONDS: Final = 1.0
_BACKLOG_SECONDS: Final = 0.010  # how much work may lie ready in this process, by the speed measured
_GIVE_BACK_SECONDS: Final = 0.020
_MOST_LEASES: Final = 512
_MOST_SETTLED: Final = 1_000
_FIRST_SHARE: Final = 10  # a tier past its target gets one lease in so many
_SHORT_JOB_SECONDS: Final = 0.001
_ALONE_SECONDS: Final = 1.0
_BLOCK_SECONDS: Final = 2.0
_WAIT_SECONDS: Final = 30.0  # how long one wait in Redis lasts when nothing comes
_ANSWER_SECONDS: Final = 5.0


class Lane:
    """What the loop knows of one service."""

    def __init__(self, service: str, number: int, tiers: str, name: str) -> None:
        self.service = service
        self.number = number
        self.tiers = tiers
        self.base_name = name
        self.epoch = 0
        self.finished: deque[tuple[Run, Outcome]] = deque()
        self.held = 0
        self.maybe = set(tiers)
        self.due_at: float | None = None
        self.room_at: float | None = None
        self.look_at = 0.0
        self.beaten_at = 0.0
        self.beaten_idle = True  # the last beat gave the long silence of a worker that holds nothing
        self.told = False  # another worker watches this one since it holds leases
        self.told_at = 0.0
        self.others = False
        self.from_token = False
        self.controlled = False
        self.starving = ""
        self.owed = 0
        self.shares = 0
        self.link: Link | None = None
        self.waiter: Link | None = None
        self.waits = False
        self.waits_until = 0.0  # by then Redis must have answered
        self.uncertain: list[tuple[str, Outcome]] = []
        self.blocked_until = 0.0
        self.out_of_step = False  # a turn failed: what Redis says we hold may not be what we know

    @property
    def name(self) -> str:
        """The lease name; a new one after the leases were lost, so that late runs cannot pass for new ones."""
        return f"{self.base_name}.{self.epoch}"


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
    ) -> None:
        self.broker = broker
        self.store = broker.store
        self.grace_seconds = grace_seconds
        self.log_jobs = log_jobs
        self.table = table
        by_service: dict[str, str] = {}
        for queue in sorted(set(queues)):
            by_service[queue.service] = by_service.get(queue.service, "") + str(int(queue.tier))
        self.lanes = [Lane(s, n, tiers, name) for n, (s, tiers) in enumerate(by_service.items())]
        self._clustered = self.store.connector.clustered
        self._pipe_out, self._pipe_in = os.pipe()
        os.set_blocking(self._pipe_in, False)
        os.set_blocking(self._pipe_out, False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self._pipe_out, selectors.EVENT_READ, None)
        self._registered: dict[int, Lane] = {}
        self.executor = Executor(
            broker, self, slots=slots, concurrency=concurrency, table=table, worker=name, on_low=self.wake
        )
        self.stopping = False
        self.stop_now = False
        self.turned_at = 0.0
        self.finished_jobs = 0
        self._speed = 0.0
        self._speed_mark = (time.monotonic(), 0)
        self._leased_at = 0.0
        self._failures = 0
        self._cancelled: deque[set[str]] = deque()
        self._lost: deque[str] = deque()
        self._turn_order = 0
        self._suspect: tuple[Lane, Leased, float] | None = None
        self._alone_until = 0.0

    # From other threads and from signals --------------------------------------------------------------------

    def finished(self, run: Run, outcome: Outcome) -> None:
        run.lane.finished.append((run, outcome))
        self.finished_jobs += 1
        if type(outcome) is not Done or self.log_jobs:
            self._tell(run, outcome)

    def wake(self) -> None:
        self.executor.waiting = False
        try:
            os.write(self._pipe_in, b"x")
        except BlockingIOError:
            pass

    def stop(self) -> None:
        """Stop leasing, let what runs end within the grace, give the rest back. A second call stops at once."""
        self.stop_now = self.stopping
        self.stopping = True
        self.wake()

    def told_cancelled(self, job_ids: set[str]) -> None:
        self._cancelled.append(job_ids)
        self.wake()

    def told_lost(self, name: str) -> None:
        self._lost.append(name)
        self.wake()

    # The loop -----------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.executor.boot()
        self._publish_names()
        while not self.stopping:
            self._listen()
            self._drop_dead_waits()
            self._round()
            if not self.stopping:
                self._wait()
        self._drain()

    def _round(self) -> None:
        now = time.monotonic()
        self._measure(now)
        self._start_suspect(now)
        lanes = self.lanes[self._turn_order :] + self.lanes[: self._turn_order]
        self._turn_order = (self._turn_order + 1) % len(self.lanes)
        for lane in lanes:
            if lane.blocked_until > now:
                continue
            want = self._want()
            if lane.room_at is not None and lane.room_at <= now:
                self._limits_have_room(lane, want)
            if lane.finished or lane.uncertain or (want > 0 and lane.maybe) or self._time_has_come(lane, now):
                self._turn(lane, want)

    def _limits_have_room(self, lane: Lane, want: int) -> None:
        lane.room_at = None
        lane.maybe = set(lane.tiers)
        if want <= 0 and lane.others:
            for tier in lane.tiers:  # this worker is full; an idle one does not know of the moment
                self._pass_on(lane, tier)

    def _time_has_come(self, lane: Lane, now: float) -> bool:
        return lane.look_at <= now or (lane.due_at is not None and lane.due_at <= now)

    def _want(self) -> int:
        """How many jobs to lease: the free slots, and what the measured speed will have done in some milliseconds."""
        if self.stopping or self._keeps_apart():
            return 0
        executor = self.executor
        waiting = executor.backlog.qsize()
        threads, places = executor.free()
        ahead = min(_MOST_LEASES, int(self._speed * _BACKLOG_SECONDS))
        if not executor.threads:
            return min(places, _MOST_LEASES)
        busy = executor.slots - threads
        want = max(threads, ahead - busy) - waiting
        return min(want, places) if executor.has_async else want

    # A job that one more crash makes a dead letter runs alone for a while: nothing else shall be counted with it.

    def _keeps_apart(self) -> bool:
        if self._suspect is not None:
            return True
        return time.monotonic() < self._alone_until and not self._is_empty()

    def _is_empty(self) -> bool:
        return not self.executor.running() and not self.executor.backlog.qsize()

    def _set_apart(self, lane: Lane, jobs: list[Leased], now: float) -> list[Leased]:
        """Keep one suspect for later, give the others back, return the rest."""
        rest = []
        for leased in jobs:
            if not self._is_suspect(leased):
                rest.append(leased)
            elif self._suspect is None:
                self._suspect = (lane, leased, now)
            else:
                lane.uncertain.append((leased.entry, Back()))
        return rest

    def _is_suspect(self, leased: Leased) -> bool:
        return leased.crashes > 0 and leased.crashes >= self.store.crash_limit - 1

    def _start_suspect(self, now: float) -> None:
        if self._suspect is None:
            return
        lane, leased, since = self._suspect
        if self._is_empty() or now - since >= _ALONE_SECONDS:
            self._suspect = None
            self._alone_until = now + _ALONE_SECONDS
            self.executor.start(lane, [leased])

    def _measure(self, now: float) -> None:
        since, count = self._speed_mark
        if now - since >= 0.05:
            speed = (self.finished_jobs - count) / (now - since)
            self._speed = speed if speed < self._speed else (self._speed + speed) / 2
            self._speed_mark = (now, self.finished_jobs)

    # One turn -----------------------------------------------------------------------------------------------

    def _turn(self, lane: Lane, want: int) -> None:
        if lane.out_of_step and not self._resync(lane):
            return
        now = time.monotonic()
        done: list[str] = []
        others: list[tuple[str, Outcome]] = []
        stale: list[Run] = []
        finished = lane.finished
        while finished and len(done) + len(others) < _MOST_SETTLED:
            run, outcome = finished.popleft()
            if run.epoch != lane.epoch:
                stale.append(run)
            elif type(outcome) is Done:
                done.append(run.leased.entry)
            else:
                others.append((run.leased.entry, outcome))
        if stale:
            self._count_stale(lane, len(stale))
        for run in stale:
            log.warning("stale job=%s task=%s: its lease was lost, it runs again", run.id, run.plan.name)
        if lane.uncertain:
            done += [entry for entry, outcome in lane.uncertain if type(outcome) is Done]
            others += [(entry, outcome) for entry, outcome in lane.uncertain if type(outcome) is not Done]
        settled = len(done) + len(others)
        flags, first = self._flags(lane, now, want, lane.held > settled)
        all_tiers = "k" in flags or "n" in flags or (lane.maybe and not lane.from_token)
        tiers = lane.tiers if all_tiers else "".join(sorted(lane.maybe))
        try:
            turn = self.store.turn(
                self._link(lane),
                lane.service,
                lane.name,
                flags=flags,
                silence_ms=SILENCE_MS,
                idle_silence_ms=int(3_000 * self._idle_look()),
                held=max(0, lane.held - settled),
                done=done,
                others=others,
                want=max(0, want),
                tiers=tiers,
                first=first,
            )
        except RedisUnavailable as error:
            # Whether the script ran is not known: what was settled is offered again, and _resync asks what we hold.
            lane.uncertain = [(entry, Done()) for entry in done] + others
            lane.out_of_step = True
            self._refused_or_failed(lane, error)
            return
        lane.uncertain = []
        self._failures = 0
        lane.held = max(0, lane.held - settled)
        self.turned_at = now
        self._take_in(lane, turn, now, flags, want)
        if self.table is not None:
            held = sum(x.held for x in self.lanes)
            self.table.publish(time.time(), held, self.finished_jobs)

    def _count_stale(self, lane: Lane, number: int) -> None:
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

    def _flags(self, lane: Lane, now: float, want: int, busy: bool) -> tuple[str, str]:
        """What to ask besides. A lone job's settling asks nothing: whatever came meanwhile has left a token."""
        flags, first = "", ""
        look = lane.look_at <= now or (lane.due_at is not None and lane.due_at <= now)
        if look:
            flags += "k"
            if lane.held:
                flags += "s"
        if busy:
            flags += "n"
        if (now - lane.beaten_at >= 1.0 and (busy or look)) or (
            want > 0 and (lane.beaten_idle or now - lane.beaten_at >= 1.0)
        ):
            flags += "b"
        if lane.others and (want > 0 or busy) and not lane.told and now - lane.told_at > SILENCE_MS / 1000:
            flags += "w"
        if lane.controlled:
            flags += "c"
        # The highest tier comes first anyway; the others that wait too long take turns with their shares.
        late = [tier for tier in lane.starving if tier in lane.tiers[1:]]
        if late and want > 0:
            lane.owed += want * len(late)
            if lane.owed >= _FIRST_SHARE:
                lane.shares += 1
                first = f"{late[lane.shares % len(late)]}:{lane.owed // _FIRST_SHARE}"
                lane.owed %= _FIRST_SHARE
        return flags, first

    def _take_in(self, lane: Lane, turn: Turn, now: float, flags: str, want: int) -> None:
        if turn.lost:
            self._lose(lane)
            return
        holds = lane.held > 0 or bool(turn.jobs)
        if "b" in flags:
            lane.beaten_at = now
            lane.beaten_idle = not holds
            lane.told = lane.told and holds
        if "w" in flags and holds:
            lane.told, lane.told_at = True, now
        if turn.refused:
            log.warning("stale %d settlement(s) of %s refused: the leases were lost", len(turn.refused), lane.service)
        if turn.due_in != -2:
            lane.due_at = None if turn.due_in < 0 else now + turn.due_in / 1000
        if "d" in turn.news:
            lane.look_at = now
        elif "w" in turn.news:
            lane.look_at = min(lane.look_at, now + SILENCE_MS / 1000)
        if turn.workers != -2:
            lane.others = turn.workers > 1
            self._next_look(lane, turn, now)
        if "s" in flags:
            lane.starving = turn.starving
        if turn.controlled != lane.controlled and (turn.controlled or "c" in flags):
            lane.controlled = turn.controlled
            if turn.controlled:
                self._rebuild_slots(lane)
        if turn.room_in >= 0:  # a turn that did not try the limited tier says nothing of it
            room_at = now + turn.room_in / 1000
            lane.room_at = room_at if lane.room_at is None else min(lane.room_at, room_at)
        lane.from_token = False
        if want > 0:
            lane.maybe = set(turn.more) & set(lane.tiers)
        for name in turn.expired:
            self._reclaim(lane, name)
        if turn.jobs:
            lane.held += len(turn.jobs)
            self._leased_at = now
            jobs = turn.jobs
            if any(leased.crashes for leased in jobs):
                jobs = self._set_apart(lane, jobs, now)
            self.executor.start(lane, jobs)

    def _next_look(self, lane: Lane, turn: Turn, now: float) -> None:
        seconds = _BUSY_LOOK_SECONDS if lane.held or turn.jobs else self._idle_look()
        if 0 <= turn.expires_in < seconds * 1000:
            seconds = turn.expires_in / 1000 + 0.01
        lane.look_at = now if turn.due_in == 0 else now + seconds

    def _idle_look(self) -> float:
        # However many services: an idle process asks some of them in turn (12 calls a minute).
        return _IDLE_LOOK_SECONDS * max(1.0, len(self.lanes) / 4)

    def _rebuild_slots(self, lane: Lane) -> None:
        """Once this worker knows of a limit, what it leased before must count too."""
        from fourlane.queues import control

        try:
            control.rewrite(self.store, lane.service)
        except RedisUnavailable as error:
            log.warning("%s", error)
            lane.controlled = False

    def _reclaim(self, lane: Lane, name: str) -> None:
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
        late = [run for run in self.executor.running() if run.lane is lane]
        log.warning("lost service=%s worker=%s: %d running job(s) will not count", lane.service, lane.name, len(late))
        for run in self.executor.take_back():
            if run.lane is not lane:
                self.executor.backlog.put(run)
        if self._suspect is not None and self._suspect[0] is lane:
            self._suspect = None
        lane.epoch += 1
        lane.held = 0
        lane.uncertain = []
        lane.beaten_at = 0.0
        lane.beaten_idle, lane.told = True, False
        lane.maybe = set(lane.tiers)
        lane.look_at = 0.0
        self._publish_names()

    def _refused_or_failed(self, lane: Lane, error: RedisUnavailable) -> None:
        if is_refusal(error):
            self._block(lane, error)
        else:
            self._failed(lane, error)

    def _block(self, lane: Lane, error: RedisUnavailable) -> None:
        """Redis answered this service with an error, such as a key of the wrong type. The others go on."""
        log.error("service=%s blocked for %g s: %s", lane.service, _BLOCK_SECONDS, error)
        lane.blocked_until = time.monotonic() + _BLOCK_SECONDS
        lane.look_at = lane.blocked_until

    def _failed(self, lane: Lane, error: RedisUnavailable) -> None:
        """Redis did not answer. Wait longer each time; what finished meanwhile is kept."""
        self._failures += 1
        pause = min(2.0, 0.05 * 2 ** min(self._failures, 6))
        if self._failures in (1, 10) or self._failures % 100 == 0:
            log.warning("%s; trying again", error)
        self._drop_waits()
        keeper = lane if self._clustered else self.lanes[0]
        if keeper.link is not None:
            keeper.link.close()
            keeper.link = None  # in a cluster another node may be the one to ask
        deadline = time.monotonic() + pause
        while not self.stop_now and (left := deadline - time.monotonic()) > 0:
            self.selector.select(left)
            self._clear_pipe()
        try:
            self.store.connector.refresh()
        except RedisUnavailable as again:
            log.debug("%s", again)
        lane.maybe = set(lane.tiers)

    def _resync(self, lane: Lane) -> bool:
        """After a lost reply: give back what Redis says we hold and we never received. False when it fails too."""
        try:
            held = self.store.held(lane.service, lane.name)
        except RedisUnavailable as error:
            self._refused_or_failed(lane, error)
            return False
        known = {run.leased.entry for run in self.executor.running() if run.lane is lane}
        known |= {run.leased.entry for run, _ in list(lane.finished)}
        if self._suspect is not None:
            known.add(self._suspect[1].entry)
        waiting = self.executor.take_back()
        for run in waiting:
            if run.lane is lane:
                known.add(run.leased.entry)
            self.executor.backlog.put(run)
        lane.uncertain = [(entry, outcome) for entry, outcome in lane.uncertain if entry in held]
        known |= {entry for entry, _ in lane.uncertain}
        lane.uncertain += [(entry, Back()) for entry in held - known]
        lane.held = len(held)
        lane.out_of_step = False
        return True

    # Wait ---------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        executor = self.executor
        executor.low = executor.backlog.qsize() // 2
        executor.waiting = True
        timeout = self._timeout()
        now = time.monotonic()
        ready = any(lane.finished and lane.blocked_until <= now for lane in self.lanes)
        if ready and executor.backlog.qsize() <= executor.low:
            timeout = 0.0
        if timeout > 0 and self._want() > 0:
            # A short job will be settled before it pays to ask Redis to wait.
            fresh = any(lane.held for lane in self.lanes) and not any(lane.waits for lane in self.lanes)
            if fresh and self._select(min(timeout, _SHORT_JOB_SECONDS)):
                executor.waiting = False
                return
            if not self._arm_waits():
                executor.waiting = False
                return  # asleep without a wait in Redis it would miss every token
        now = time.monotonic()
        answers = [lane.waits_until for lane in self.lanes if lane.waits]
        self._select(max(0.0, min([now + timeout, *answers]) - now))
        executor.waiting = False

    def _timeout(self) -> float:
        now = time.monotonic()
        moments = [max(lane.look_at, lane.blocked_until) for lane in self.lanes]
        lanes = [lane for lane in self.lanes if lane.blocked_until <= now]
        moments += [lane.due_at for lane in lanes if lane.due_at is not None]
        moments += [lane.room_at for lane in lanes if lane.room_at is not None]
        if any(lane.maybe for lane in lanes) and self._want() > 0:
            return 0.0
        if self._suspect is not None:
            moments.append(now if self._is_empty() else self._suspect[2] + _ALONE_SECONDS)
        elif self._alone_until > now:
            moments.append(self._alone_until)
        if any(lane.uncertain for lane in lanes):
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
        self._speed = 0.0
        self._speed_mark = (time.monotonic(), self.finished_jobs)

    def _arm_waits(self) -> bool:
        """Ask Redis to tell of new jobs. False when it could not be asked."""
        groups = [[lane] for lane in self.lanes] if self._clustered else [self.lanes]
        seconds = _WAIT_SECONDS * max(1.0, len(groups) / 4)
        for group in groups:
            head = group[0]
            if head.waits:
                continue
            keys: list[Any] = []
            for lane in group:
                service = self.store.service(lane.service)
                keys += [service.wake[int(tier)] for tier in lane.tiers] + [service.news]
            try:
                if head.waiter is None:
                    head.waiter = self.store.connector.open(keys[0])
                fd = head.waiter.fileno()
                head.waiter.send("BZPOPMIN", *keys, f"{seconds:.3f}")
                if self._registered.get(fd) is not head:
                    self.selector.register(fd, selectors.EVENT_READ, head)
                    self._registered[fd] = head
                head.waits, head.waits_until = True, time.monotonic() + seconds + _ANSWER_SECONDS
            except RedisUnavailable as error:
                self._failed(head, error)
                return False
        return True

    def _drop_dead_waits(self) -> None:
        """A wait that Redis has not answered in its time: the connection is half open, and tokens went astray."""
        now = time.monotonic()
        if any(lane.waits and lane.waits_until <= now for lane in self.lanes):
            log.warning("Redis did not end a wait in its time; connecting anew")
            self._drop_waits()
            for lane in self.lanes:
                lane.look_at = 0.0

    def _drop_waits(self) -> None:
        for fd, lane in list(self._registered.items()):
            self.selector.unregister(fd)
            del self._registered[fd]
            if lane.waiter is not None:
                lane.waiter.close()
                if self._clustered:
                    lane.waiter = None
            lane.waits = False

    def _select(self, timeout: float) -> bool:
        """Wait for sockets and the executor; True when something happened."""
        events = self.selector.select(timeout)
        for key, _ in events:
            if key.data is None:
                self._clear_pipe()
            else:
                self._token(key.data)
        return bool(events)

    def _clear_pipe(self) -> None:
        try:
            os.read(self._pipe_out, 4096)
        except BlockingIOError:
            pass

    def _token(self, head: Lane) -> None:
        """A reply to BZPOPMIN: nothing in time, or a token of some service."""
        assert head.waiter is not None
        try:
            reply = head.waiter.receive()
        except RedisUnavailable as error:
            self._failed(head, error)
            return
        head.waits = False
        if reply is None:
            return
        key, token = reply[0], reply[1].decode()
        for lane in self.lanes:
            if key.startswith(self.store.service(lane.service).prefix.encode()):
                if token == "d":
                    lane.look_at = 0.0
                elif token == "w":
                    lane.look_at = min(lane.look_at, time.monotonic() + SILENCE_MS / 1000)
                elif self._want() > 0:
                    # The wait gives the highest tier's token first: right now nothing is known of higher ones.
                    lane.from_token = not lane.maybe
                    lane.maybe.add(token)
                else:
                    self._pass_on(lane, token)

    def _pass_on(self, lane: Lane, token: str) -> None:
        """No slot is free any more: another worker shall have it."""
        lane.maybe.add(token)
        try:
            self.store.wake(lane.service, int(token))
        except RedisUnavailable as error:
            log.warning("%s", error)

    # Stop ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while self._cancelled:
            self.executor.cancel(self._cancelled.popleft())
        while self._lost:
            name = self._lost.popleft()
            for lane in self.lanes:
                if lane.name == name and lane.held:
                    self._lose(lane)

    def _drain(self) -> None:
        """A deploy is not a failure (DESIGN.md 3.5)."""
        self._drop_waits()
        for run in self.executor.take_back():
            run.lane.finished.append((run, Back()))
        if self._suspect is not None:
            lane, leased, _ = self._suspect
            lane.uncertain.append((leased.entry, Back()))
        self.executor.tell_shutdown()
        deadline = time.monotonic() + self.grace_seconds
        while True:
            self._listen()
            for lane in self.lanes:
                if lane.finished or lane.uncertain:
                    self._turn(lane, 0)
            running = self.executor.running()
            if self.stop_now or not running or time.monotonic() >= deadline:
                break
            self.executor.waiting, self.executor.low = True, 0
            self.selector.select(0 if any(x.finished for x in self.lanes) else min(0.5, deadline - time.monotonic()))
            self._clear_pipe()
        for run in self.executor.running():
            run.abandoned = True
            log.warning("given-back job=%s task=%s: it did not end within the grace", run.id, run.plan.name)
            run.lane.finished.append((run, Back()))
        for lane in self.lanes:
            patience = time.monotonic() + 5.0
            while (lane.finished or lane.uncertain) and time.monotonic() < patience:
                self._turn(lane, 0)
            try:
                self.store.leave(lane.service, lane.name)
            except RedisUnavailable as error:
                log.warning("%s; its jobs come back when its silence is noticed", error)
        self.executor.close()

    # Tell ---------------------------------------------------------------------------------------------------

    def _publish_names(self) -> None:
        if self.table is not None:
            self.table.publish_names({lane.service: lane.name for lane in self.lanes})

    def _tell(self, run: Run, outcome: Outcome) -> None:
        seconds = time.monotonic() - run.started if run.started else 0.0
        what = (run.id, run.plan.name or run.envelope.task, getattr(run, "attempt", 1), seconds * 1000)
        match outcome:
            case Retry(delay_ms, _, error):
                log.warning("retry job=%s task=%s attempt=%d ms=%.1f again_in_ms=%d error=%s", *what, delay_ms, error)
            case Dead(reason, detail):
                log.error("dead job=%s task=%s attempt=%d ms=%.1f reason=%s error=%s", *what, reason, detail)
            case Postpone(delay_ms, _, unknown) if unknown:
                log.warning("unknown-task job=%s task=%s again_in_ms=%d", run.id, unknown, delay_ms)
            case Postpone(delay_ms):
                log.info("postponed job=%s task=%s attempt=%d ms=%.1f again_in_ms=%d", *what, delay_ms)
            case Cancel():
                log.info("cancelled job=%s task=%s attempt=%d ms=%.1f", *what)
            case Back():
                log.info("given-back job=%s task=%s attempt=%d ms=%.1f", *what)
            case _ if self.log_jobs:
                log.info("done job=%s task=%s attempt=%d ms=%.1f", *what)
