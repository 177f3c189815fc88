"""The scheduler: makes a job for each nominal time of every schedule of the environment.

1. Ask each service what is due soon; the same call tells Redis's time, which is the only clock here.
2. Prepare the jobs (plan.py), wait for their moment, and send them in batches (lua/schedule_fire.lua).
3. Sleep until the next one is due, or until somebody edits a schedule.

Any number may run. Whoever comes first leads while something is due, the others come a little later the next time;
what makes each nominal time happen once is the script, not the lead.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import select
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Final

import msgspec

from fourlane import codec, job
from fourlane.errors import FourlaneError, RedisUnavailable
from fourlane.names import Queue, Tier
from fourlane.queues import control, schedules
from fourlane.queues.redis import Link, blocks_for, is_answer
from fourlane.queues.schedules import Fire, Schedule, State
from fourlane.queues.store import Store
from fourlane.scheduler.plan import Missed, Nominal, due_ms, next_look_ms, plan
from fourlane.watchdog import Watchdog

__all__ = ["Scheduler", "make_job", "start_scheduler"]

log = logging.getLogger("fourlane.scheduler")

_AHEAD_MS: Final = 1_000  # jobs are prepared this long before their time
_LEAD_MS: Final = 3_000
_PATIENCE_SECONDS: Final = 0.3  # who does not lead lets the leader be first
_LOOK_SECONDS: Final = 600.0
_WAIT_SECONDS: Final = 120.0
_SILENT_SECONDS: Final = 5.0
_SHORT_SECONDS: Final = 0.05  # not worth a blocking call
_MOST: Final = 10_000
_BATCH: Final = 250
_IDLE_MS: Final = 60_000
_LONGEST_PAUSE_SECONDS: Final = 5.0


def start_scheduler(store: Store, watchdog: Watchdog | None = None) -> Scheduler:
    """Run a scheduler in a thread; ``stop`` ends it."""
    scheduler = Scheduler(store, watchdog)
    threading.Thread(target=scheduler.run, name="fourlane-scheduler", daemon=True).start()
    return scheduler


@dataclass(slots=True)
class _Lane:
    """What is known of one service: when to ask it again, whether another scheduler leads there, and the nominal
    times that are prepared, in the order of their moments: all that are due before ``until_ms``."""

    look_at: float = 0.0
    until_ms: int = 0
    due_at: float = math.inf
    follows: bool = False
    waiting: list[Fire] = field(default_factory=list)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    told_ms: int = 0
    told_at: float = 0.0

    def now_ms(self) -> float:
        """Redis's time."""
        return self.told_ms + (time.monotonic() - self.told_at) * 1000

    def act_at(self) -> float:
        if self.waiting:
            return self.told_at + (self.waiting[0].not_before_ms - self.told_ms) / 1000
        return self.look_at

    def look_now(self) -> None:
        self.waiting, self.look_at = [], 0.0


class Scheduler:
    """Run it in a thread of its own, or alone in a process.

    Parameters:
      store: where the schedules are.
      watchdog: told of each step that is done.
    """

    def __init__(self, store: Store, watchdog: Watchdog | None = None) -> None:
        self.store = store
        self.watchdog = watchdog or Watchdog()
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.stopping = False
        self._lanes: dict[str, _Lane] = {}
        self._services_at = 0.0
        self._links: dict[str, Link] = {}
        self._waiter: Link | None = None
        self._waits_until = 0.0  # the end of the blocking call that Redis holds
        self._out, self._in = socket.socketpair()
        self._in.setblocking(False)

    def stop(self) -> None:
        """End run(); from any thread, and from signal handlers."""
        self.stopping = True
        try:
            self._in.send(b"x")
        except OSError:
            pass  # it is full of such bytes, or run() has ended

    def run(self) -> None:
        """Run until stopped. While Redis is away it tries again and again."""
        pause = 0.1
        self.watchdog.kick()
        while not self.stopping:
            try:
                self._sleep(self._round())
                pause = 0.1
                continue
            except RedisUnavailable as error:
                log.warning("%s; trying again in %.1f s", error, pause)
                if is_answer(error):
                    self.watchdog.kick()
            except Exception:
                log.exception("the scheduler met an error of its own; trying again in %.1f s", pause)
            self._close()
            self._rest(pause)
            self._refresh()
            pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)
        self.watchdog.leave()
        self._close()
        self._out.close()
        self._in.close()

    def _round(self) -> float:
        """Do what is due in each service; returns the seconds until the next look."""
        now = time.monotonic()
        if now >= self._services_at:
            self._services_at = now + _LOOK_SECONDS
            self._lanes = {s: self._lanes.get(s, _Lane()) for s in self.store.services()}
            for lane in self._lanes.values():
                lane.look_at = min(lane.look_at, now)
        for service, lane in self._lanes.items():
            if lane.act_at() <= time.monotonic() and not self.stopping:
                if lane.waiting:
                    self._send(service, lane)
                else:
                    self._look(service, lane)
                self.watchdog.kick()
        return min([self._services_at, *(lane.act_at() for lane in self._lanes.values())]) - time.monotonic()

    def _look(self, service: str, lane: _Lane) -> None:
        asked = time.monotonic()
        due = schedules.due(
            self.store, self._link(service), service, self.name, lead_ms=_LEAD_MS, ahead_ms=_AHEAD_MS, most=_MOST
        )
        lane.told_ms, lane.told_at = due.now_ms, asked
        if due.word == "due":
            lane.follows, lane.due_at, lane.look_at = False, math.inf, asked
            lane.until_ms = due.now_ms + _AHEAD_MS
            self._prepare_all(lane, due)
        elif due.word == "busy":
            lane.follows = True
            lane.look_at = asked + due.wait_ms / 1000
        else:
            lane.follows = lane.follows or asked >= lane.due_at  # another one did what was due
            lane.look_at, lane.due_at = asked + _LOOK_SECONDS, math.inf
            if due.wait_ms >= 0:
                lane.due_at = asked + due.wait_ms / 1000
                ahead = -_PATIENCE_SECONDS if lane.follows else _AHEAD_MS / 1000
                lane.look_at = min(lane.look_at, max(asked, lane.due_at - ahead))

    # What is due --------------------------------------------------------------------------------------------

    def _send(self, service: str, lane: _Lane) -> None:
        """Send what has come to its moment, a batch of it."""
        now_ms, last = lane.now_ms(), 0
        while last < min(_BATCH, len(lane.waiting)) and lane.waiting[last].not_before_ms <= now_ms:
            last += 1
        if not last:
            return
        fires, rest = lane.waiting[:last], lane.waiting[last:]
        lane.waiting = []  # should the reply be lost, Redis tells what is left to do
        asked = time.monotonic()
        lane.told_ms, words = schedules.fire(self.store, self._link(service), service, fires)
        lane.told_at = asked
        if "moved" in words:
            lane.look_now()  # another scheduler was here, or an edit: what is prepared may be void too
            self._take_in(service, lane, fires, words)
            return
        waiting = self._take_in(service, lane, fires, words) + rest
        waiting += self._go_on(lane, fires, words, {fire.name for fire in waiting})
        lane.waiting = sorted(waiting, key=_moment)

    def _prepare_all(self, lane: _Lane, due: schedules.Due) -> None:
        lane.schedules = {schedule.name: schedule for schedule, _, _ in due.found}
        waiting: list[Fire] = []
        for schedule, state, text in due.found:
            waiting += self._prepare(schedule, state, text, due.now_ms, lane.until_ms)
        lane.waiting = sorted(waiting, key=_moment)

    def _go_on(self, lane: _Lane, fires: list[Fire], words: list[str], waiting: set[str]) -> list[Fire]:
        """What comes after what was decided, as long as it is due before the next look."""
        left = {fire.name: _left(fire, word) for fire, word in zip(fires, words, strict=True)}
        more: list[Fire] = []
        for name, (text, due) in left.items():
            if text and 0 < due < lane.until_ms and name not in waiting:
                now_ms = int(lane.now_ms())
                more += self._prepare(lane.schedules[name], schedules.read_state(text), text, now_ms, lane.until_ms)
        return more

    def _prepare(self, schedule: Schedule, state: State, text: bytes, now_ms: int, until_ms: int) -> list[Fire]:
        try:
            return self._planned(schedule, state, text, now_ms, until_ms)
        except FourlaneError as error:
            log.error("schedule=%s cannot be planned: %s", schedule.name, error)
            return [_put_off(schedule, text, now_ms + _IDLE_MS)]

    def _planned(self, schedule: Schedule, state: State, text: bytes, now_ms: int, until_ms: int) -> list[Fire]:
        """What to ask of Redis for one schedule. Each step builds on the state that the one before leaves."""
        if state.paused:
            return [_put_off(schedule, text, 0)]  # the end of a job made it due
        fires: list[Fire] = []
        if state.queued_ms:
            fires.append(_of_queued(schedule, state, text, now_ms))
        for step in plan(schedule, state, now_ms, until_ms - now_ms):
            if isinstance(step, Missed):
                state = msgspec.structs.replace(state, last_ms=step.last_ms, next_ms=step.next_ms)
                line = f"m {step.first_ms} {step.last_ms}"
                due = next_look_ms(schedule, state, now_ms)
                fire = Fire(schedule.name, text, 0, "", b"", "", schedules.encode(state), due, line)
                fires.append(fire)
                text = fire.new_state
                continue
            fire, state = _of_nominal(schedule, state, text, step, now_ms)
            fires.append(fire)
            text = fire.new_state
            if schedule.overlap != "allow" and step.checks:
                break  # whether it fires is not known yet, nor what comes after it
        if fires:
            return fires
        if not state.next_ms and not schedule.module:
            self._drop(schedule, text)
            return []
        return [_put_off(schedule, text, max(next_look_ms(schedule, state, now_ms), now_ms + 1_000))]

    def _drop(self, schedule: Schedule, text: bytes) -> None:
        """Its last time is long over."""
        schedules.write(self.store, schedule.service, [schedules.Write(schedule.name, text, b"")])
        log.info("dropped schedule=%s: its last run was a week ago", schedule.name)

    def _take_in(self, service: str, lane: _Lane, fires: list[Fire], words: list[str]) -> list[Fire]:
        """Log what came of them; returns those to try again."""
        again: list[Fire] = []
        for fire, word in zip(fires, words, strict=True):
            schedule = lane.schedules[fire.name]
            if word == "early":
                again.append(fire)
            elif word == "alive" and not fire.alive_state:  # replace
                place = Queue(service, Tier(int(fire.former[0])))
                was = control.cancel(self.store, fire.former, place, has_callbacks=lambda task: True)
                log.info("replace schedule=%s job=%s was=%s", fire.name, fire.former, was)
                again.append(fire._replace(former=""))
            elif word == "fired" and fire.entry:
                late = lane.told_ms - int(fire.line.split(" ")[2])
                if late > schedule.late_after_ms:
                    log.warning("late schedule=%s job=%s late_ms=%d", fire.name, fire.entry, late)
                else:
                    log.debug("fired schedule=%s job=%s late_ms=%d", fire.name, fire.entry, late)
            elif word == "fired" and fire.line:
                log.warning("missed schedule=%s from=%s to=%s", fire.name, *fire.line.split(" ")[1:3])
            elif word == "alive" and fire.alive_line:
                what = "queued" if fire.alive_line[0] == "q" else "skipped"
                log.info("%s schedule=%s: its job %s is not done yet", what, fire.name, fire.former)
        return again

    # Sleep --------------------------------------------------------------------------------------------------

    def _sleep(self, seconds: float) -> None:
        """Sleep until then, or until a schedule was edited: all are looked at then."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.stopping:
            if left < _SHORT_SECONDS:
                self._rest(left)
            elif self._hears_of_edits(left):
                self._services_at = 0.0
                for lane in self._lanes.values():
                    lane.look_now()
                return

    def _hears_of_edits(self, seconds: float) -> bool:
        """One blocking call a minute waits for edits, however often this sleeps meanwhile."""
        key = self.store.keys.edits
        if self._waiter is None:
            self._waiter = self.store.connector.open(key)
            self._waits_until = 0.0
        fd, stop = self._waiter.fileno(), self._out.fileno()
        now = time.monotonic()
        if not self._waits_until:
            self._waiter.send("BZPOPMIN", key, blocks_for(_WAIT_SECONDS))
            self._waits_until = now + _WAIT_SECONDS
        silent_at = self._waits_until + _SILENT_SECONDS
        wait = max(0.0, min(seconds, silent_at - now))
        self.watchdog.kick(wait)
        if fd in _readable((fd, stop), wait):
            self._waits_until = 0.0
            return self._waiter.receive() is not None
        if time.monotonic() >= silent_at:
            self._close()  # a new connection tells what is wrong
        return False

    def _rest(self, seconds: float) -> None:
        _readable((self._out.fileno(),), max(0.0, seconds))

    def _refresh(self) -> None:
        """In a cluster others may hold the services by now."""
        try:
            self.store.connector.refresh()
        except RedisUnavailable as error:
            log.debug("%s", error)

    def _link(self, service: str) -> Link:
        """One connection for all services, but in a cluster one for each."""
        name = service if self.store.connector.clustered else ""
        link = self._links.get(name)
        if link is None:
            link = self._links[name] = self.store.connector.open(self.store.service(service).fires)
        return link

    def _close(self) -> None:
        for link in [*self._links.values(), *([self._waiter] if self._waiter else [])]:
            link.close()
        self._links, self._waiter, self._waits_until = {}, None, 0.0
        for lane in self._lanes.values():
            lane.look_now()


def _readable(fds: tuple[int, ...], seconds: float) -> set[int]:
    poll = select.poll()  # select() knows no numbers over 1023
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(math.ceil(seconds * 1000))}


def _moment(fire: Fire) -> int:
    return fire.not_before_ms


def _left(fire: Fire, word: str) -> tuple[bytes, int]:
    """The state that a decision left, and when it is due again; an empty one when nothing was decided."""
    if word == "fired":
        return fire.new_state, fire.due_ms
    if word == "alive":
        return fire.alive_state, fire.alive_due_ms
    return b"", 0


def _put_off(schedule: Schedule, text: bytes, due: int) -> Fire:
    return Fire(schedule.name, text, 0, "", b"", "", text, due, "")


def _of_nominal(schedule: Schedule, state: State, text: bytes, step: Nominal, now_ms: int) -> tuple[Fire, State]:
    """A nominal time as a request, and the state that it leaves when it fires."""
    passed = msgspec.structs.replace(state, last_ms=step.nominal_ms, next_ms=step.next_ms)
    entry, body = make_job(schedule, step.nominal_ms, max(now_ms, step.due_ms))
    fired = _after_job(schedule, passed, entry)
    former = state.job if step.checks and schedule.overlap != "allow" else ""
    moment = f"{step.nominal_ms} {step.due_ms}"
    look = next_look_ms(schedule, fired, now_ms)
    fire = Fire(
        schedule.name, text, step.due_ms, entry, body, former, schedules.encode(fired), look, f"f {moment}"
    )  # fmt: skip
    if not former or schedule.overlap == "replace":
        return fire, fired
    if schedule.overlap == "queue" and not state.queued_ms:
        held, word = msgspec.structs.replace(passed, queued_ms=step.nominal_ms), "q"
    else:
        held, word = msgspec.structs.replace(passed, skipped=state.skipped + 1), "s"
    fire = fire._replace(
        alive_state=schedules.encode(held),
        alive_due_ms=next_look_ms(schedule, held, now_ms),
        alive_line=f"{word} {moment}",
    )
    if state.queued_ms:
        # The one that waits goes first; this one waits in its place.
        entry, body = make_job(schedule, state.queued_ms, max(now_ms, step.due_ms))
        fired = _after_job(schedule, msgspec.structs.replace(passed, queued_ms=step.nominal_ms), entry)
        line = f"f {state.queued_ms} {due_ms(schedule, state.queued_ms)}"
        fire = fire._replace(entry=entry, body=body, new_state=schedules.encode(fired), line=line)
    return fire, fired


def _of_queued(schedule: Schedule, state: State, text: bytes, now_ms: int) -> Fire:
    """The run that waits for the end of the one before."""
    entry, body = make_job(schedule, state.queued_ms, now_ms)
    fired = _after_job(schedule, msgspec.structs.replace(state, queued_ms=0), entry)
    return Fire(
        schedule.name, text, 0, entry, body, state.job, schedules.encode(fired), next_look_ms(schedule, fired, now_ms),
        f"f {state.queued_ms} {due_ms(schedule, state.queued_ms)}", text, next_look_ms(schedule, state, now_ms), "",
    )  # fmt: skip


def _after_job(schedule: Schedule, state: State, job_id: str) -> State:
    runs = state.runs + 1
    state = msgspec.structs.replace(state, runs=runs, job=job_id)
    if schedule.max_runs and runs >= schedule.max_runs:
        return msgspec.structs.replace(state, next_ms=0, queued_ms=0)
    return state


def make_job(schedule: Schedule, nominal_ms: int, at_ms: int) -> tuple[str, bytes]:
    options = {"schedule": schedule.name, "scheduled_for": nominal_ms}
    body = codec.encode(schedule.task, schedule.args, schedule.kwargs, options, enqueued_ms=at_ms)
    return job.new_id(schedule.tier, at_ms), body
