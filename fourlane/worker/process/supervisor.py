"""Starts worker processes, beats for them, restarts, recycles and kills them, and answers with a true exit code.

It imports nothing of the user's, so that a reload reads new code, and user code cannot stop its beat.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from fourlane.errors import FourlaneError, RedisUnavailable
from fourlane.queues import browse
from fourlane.queues.kept import Keeper
from fourlane.queues.pulse import BEAT_SECONDS, SILENCE_MS
from fourlane.queues.redis import Link, is_refusal
from fourlane.queues.store import Store
from fourlane.readable import readable
from fourlane.version import __version__
from fourlane.watchdog import STUCK, Watchdog, ping_of
from fourlane.worker.process.child import Child, Options
from fourlane.worker.process.main import CANNOT_START, CONTROLLED, Told
from fourlane.worker.process.orphans import reap_orphans
from fourlane.worker.process.probe import Health
from fourlane.worker.process.restart import End, pause_seconds
from fourlane.worker.process.triers import MOST_ESCAPES, Place, escapes_of_late, is_wary, triers
from fourlane.worker.process.watch import Watch
from fourlane.worker.process.watchdog import PROBE_AFTER, Look, quiet_seconds
from fourlane.worker.table import Leave, Vitals

if TYPE_CHECKING:
    from fourlane.observe.metrics import Host
    from fourlane.observe.otlp import Pusher
    from fourlane.queues.status import Beyond
    from fourlane.scheduler.ticker import Scheduler

__all__ = ["Options", "Supervisor"]

log = logging.getLogger("fourlane.supervisor")

STOPPED_AT_ONCE: Final = 130  # what a shell reports of a program that Ctrl-C ended
_INIT: Final = 1  # the process that inherits orphans
_PRESENCE_SECONDS: Final = 30.0
_WATCH_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 1.5  # a connection that is half open must not take the whole silence
_BEAT_AGAIN_SECONDS: Final = 0.25
_HEALTH_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 5.0
_DECLARE_SECONDS: Final = 30.0
_OVERRUN_SECONDS: Final = 10.0  # a job that was interrupted may need a moment to end
_LIVE_SECONDS: Final = 60.0  # longer than a Redis that does not answer can hold up one look
_DEATHS_KEPT: Final = 10
_TICK_SECONDS: Final = 0.25
_START_TICK_SECONDS: Final = 0.05  # while one starts, of which others wait to hear
_UNBEGUN_MS: Final = 1_000
_READY_SECONDS: Final = 45.0  # an idle process takes a turn every 25 s


class Outside(Protocol):
    """Looks at what lies beyond the queues (tasks/upkeep/beyond.py); threads share it."""

    has_database: bool

    def look(self, store: Store) -> Beyond: ...
    def database_answers(self) -> bool: ...


class Supervisor:
    """Runs in the main thread of ``fourlane worker``."""

    def __init__(
        self,
        store: Store,
        options: Options,
        on_ready: Callable[[], None] | None = None,
        outside: Outside | None = None,
        declare: Callable[[], None] | None = None,
    ) -> None:
        """``declare`` writes what settings declare; it was called before, and is again when Redis loses its data."""
        self.store = store
        self._own = store.answering_within(_ANSWER_SECONDS)
        """What the main thread asks: who does not answer holds it up for a moment only."""
        self._declare = declare
        self.outside = outside
        self.options = options
        self.on_ready = on_ready
        self.children: list[Child] = []
        self.stopping = False
        self.exit_code = 0
        self.started_ms = int(time.time() * 1000)
        self._had_terminal = os.isatty(2)
        self._served = False  # whether any process ever did
        self._start_at: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        self._died_at: dict[int, float] = {}
        self._deaths: deque[float] = deque(maxlen=_DEATHS_KEPT)
        self._escapes: deque[float] = deque(maxlen=MOST_ESCAPES)
        self._broken: list[int] = []  # processes that wait for an edit of the code
        self._to_reload: list[Child] = []
        self._looked_at = time.monotonic()
        self._beaten_at = 0.0
        self._present_at = 0.0
        self._attended_at = 0.0
        self._probed_at = 0.0
        self._reached = True  # Redis answered the last probe
        self._declare_order = 0
        self._gone: list[str] = []  # names to take from the list of workers
        self._links: dict[bytes, Link] = {}
        self._cancels_since: dict[str, int] = {}
        self._signals: list[int] = []
        self._watch = Watch(options.watch) if options.watch else None
        self._watched_at = 0.0
        self.metrics = self._metrics() if options.observe.metrics or options.observe.otlp_metrics else None

    def run(self) -> int:
        """Run until stopped; returns the exit code."""
        for caught in (*CONTROLLED, *self._passed_on(), signal.SIGCHLD):
            signal.signal(caught, lambda n, _: self._signals.append(n))
        woken, wake = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._start_at = dict.fromkeys(range(self.options.processes), 0.0)
        keeper = Keeper(self.store, self._declare_again)
        scheduler = self._start_scheduler() if self.options.scheduler else None
        pusher = self._start_pusher(self.metrics) if self.metrics and self.options.observe.otlp_metrics else None
        try:
            browse.workers(self.store)  # forgets those long lost, which bounds their list
            while self.children or not self.stopping:
                self._tick()
                readable([woken.fileno()], _TICK_SECONDS if self._all_serve() else _START_TICK_SECONDS)
                try:
                    woken.recv(4096)
                except BlockingIOError:
                    pass
        finally:
            signal.set_wakeup_fd(-1)
            keeper.stop()
            if scheduler is not None:
                scheduler.stop()
            woken.close()
            wake.close()
            for child in self.children:
                child.process.kill()
            self._absent()
            if pusher is not None:
                pusher.close()
            if self.metrics is not None:
                self.metrics.close()
        return self.exit_code

    def _metrics(self) -> Host:
        from fourlane.observe.metrics import Host

        if self.outside is None:
            return Host(self.store, self._processes)
        outside = self.outside
        return Host(self.store, self._processes, lambda: outside.look(self.store))

    def _start_pusher(self, metrics: Host) -> Pusher:
        from fourlane.observe.otlp import Pusher

        pusher = Pusher(metrics.collect, self.options.observe)
        pusher.start()
        return pusher

    def _processes(self) -> list[tuple[str, int, int, float]]:
        """For a scrape, from another thread: name, jobs that run, slots and megabytes of each process."""
        found = []
        for child in list(self.children):
            try:
                found.append((child.name, len(child.table.running()), self.options.slots, child.rss_mb()))
            except ValueError:  # it has just ended and its table is closed
                continue
        return found

    def _count(self, name: str, number: int = 1) -> None:
        if self.metrics is not None:
            self.metrics.counts[name] += number

    def _start_scheduler(self) -> Scheduler:
        from fourlane.scheduler.ticker import start_scheduler

        watchdog = Watchdog(end=self.end_stuck)
        watchdog.start(ping_of(self.store.connector, self.store.keys.edits))
        return start_scheduler(self.store, watchdog)

    def end_stuck(self) -> None:
        """Stop as on SIGTERM, but tell by the exit code that something here did no work any more; from any thread."""
        self.exit_code = STUCK
        self._signals.append(signal.SIGTERM)

    def _tick(self) -> None:
        while self._signals:
            self._signalled(self._signals.pop(0))
        now = self._looked_at = time.monotonic()
        for child in list(self.children):
            if child.process.poll() is not None:
                self._ended(child, now)
        if os.getpid() == _INIT:
            reap_orphans([child.process.pid for child in self.children])
        for number, due in list(self._start_at.items()):
            if due <= now:
                self._start(number, now)
        for child in self.children:
            child.flush()
        self._grant(now)
        if now - self._beaten_at >= BEAT_SECONDS:
            self._beaten_at = now
            self._beat()
            self._recycle(now)
        self._kill_overdue()
        if now - self._attended_at >= _HEALTH_SECONDS:
            self._attend(now)
        self._tell_ready()
        new = [child for child in self.children if child.serves and not child.presented]
        if new or now - self._present_at >= _PRESENCE_SECONDS:
            self._present_at = now
            self._present()
        if self._watch and now - self._watched_at >= _WATCH_SECONDS:
            self._watched_at = now
            if changed := self._watch.changed():
                self._reload(f"{changed[0]} changed")
        self._go_on_reloading()

    def _all_serve(self) -> bool:
        return all(child.serves for child in self.children)

    def _grant(self, now: float) -> None:
        """Say which processes may try suspects."""
        places = [Place(0.0, 0.0, self._died_at.get(number, 0.0)) for number in range(self.options.processes)]
        for child in self.children:
            if child.serves and child.stopping_since is None:
                child.serves_since = child.serves_since or now
                places[child.number] = Place(
                    child.serves_since, child.serves_since - child.started_at, places[child.number].died_at
                )
        trying, wary = triers(places, now), is_wary(self._deaths, now)
        for child in self.children:
            child.table.grant(Leave(child.number in trying, wary, escapes_of_late(self._escapes, now)))

    def _tell_ready(self) -> None:
        """Once, when all processes serve for the first time."""
        starting = not self.children or self._start_at or self._broken
        if self.on_ready is not None and not starting and all(child.serves for child in self.children):
            self.on_ready()
            self.on_ready = None

    def _signalled(self, number: int) -> None:
        if number == signal.SIGHUP and not self._terminal_is_gone():
            self._reload("SIGHUP")
        elif number in self._passed_on():
            for child in self.children:
                if child.serves:  # one that starts has no handler yet, and would end
                    child.process.send_signal(number)
        elif number == signal.SIGINT and self.stopping:
            log.warning("stopping at once: what runs goes back to its queue")
            self.exit_code = self.exit_code or STOPPED_AT_ONCE
            for child in self.children:
                child.kill("told to stop at once", guilty=[])
        elif not self.stopping and number in CONTROLLED:
            log.info("stopping: what runs has %g s; a second Ctrl-C stops at once", self.options.grace_seconds)
            self._stop()

    def _passed_on(self) -> tuple[signal.Signals, ...]:
        """Show stacks, write the profile."""
        return (signal.SIGUSR1, signal.SIGUSR2) if self.options.profile else (signal.SIGUSR1,)

    def _terminal_is_gone(self) -> bool:
        """SIGHUP is what a closed terminal sends too: then nobody is there to stop this worker any more."""
        return self._had_terminal and not os.isatty(2)

    def _stop(self) -> None:
        self.stopping = True
        self._start_at.clear()
        self._to_reload.clear()
        for child in self.children:
            child.stop()

    def health(self) -> Health:
        """For the probe, from another thread."""
        processes: list[dict[str, Any]] = []
        ready = not self.stopping
        for child in list(self.children):
            try:
                turned_at, wrong = child.table.turned_at, child.condemned or child.table.vitals().wrong
            except ValueError:  # it has just ended and its table is closed
                continue
            stopping = child.stopping_since is not None
            silence = time.monotonic() - turned_at if turned_at else None
            ready = ready and (stopping or (not wrong and silence is not None and silence < _READY_SECONDS))
            processes.append(
                {
                    "pid": child.process.pid,
                    "last_turn_seconds_ago": None if silence is None else round(silence, 1),
                    "stopping": stopping,
                }
                | ({"wrong": wrong} if wrong else {})
            )
        ready = ready and len(processes) == self.options.processes
        return Health(time.monotonic() - self._looked_at < _LIVE_SECONDS, ready, {"processes": processes})

    # New code -----------------------------------------------------------------------------------------------

    def _reload(self, why: str) -> None:
        if self.stopping:
            return
        log.info("reload: %s; restarting %d process(es) one by one", why, self.options.processes)
        self._to_reload = list(self.children)
        for number in [*self._start_at, *self._broken]:
            self._start_at[number] = 0.0
        self._broken.clear()
        self._pauses.clear()

    def _go_on_reloading(self) -> None:
        self._to_reload = [c for c in self._to_reload if c in self.children and c.stopping_since is None]
        for child in self._to_reload:
            if not child.serves:
                child.stop()  # no need to wait for old code that does not serve yet, and may never
        waits = self._start_at or self._broken or any(c.stopping_since or not c.serves for c in self.children)
        if self._to_reload and not waits:
            self._to_reload.pop(0).stop()

    # Life and death -----------------------------------------------------------------------------------------

    def _start(self, number: int, now: float) -> None:
        del self._start_at[number]
        try:
            folder = self.metrics.folder if self.metrics is not None else ""
            self.children.append(Child(number, self.options, folder, self._declare_order))
        except OSError as error:
            self._start_after(End(False, False, False, False, 0.0), number, now, f"cannot be started ({error})")

    def _ended(self, child: Child, now: float) -> None:
        self.children.remove(child)
        self._gone.append(child.name)
        self._served = self._served or child.serves
        if self.metrics is not None:
            self.metrics.process_ended(child.name)
        left = child.left()
        if not left:
            self._died_at[child.number] = now
            if child.table.running():
                self._deaths.append(now)
            self._count("crashes")
            level = logging.WARNING if child.killed else logging.ERROR
            log.log(level, "died process=%d pid=%d %s", child.number, child.process.pid, child.fate())
        if not left or child.table.running():  # a task may end its process with exit code 0 too
            self._reclaim(child)
        end = child.end(now)
        child.close()
        if child.process.returncode == CANNOT_START:
            self._cannot_start(end, child.number, now)
        elif self.stopping:
            if not left and self.exit_code == 0:
                self.exit_code = 1
        else:
            self._start_after(end, child.number, now)

    def _cannot_start(self, end: End, number: int, now: float) -> None:
        """Its modules do not import, and it said why."""
        self._to_reload.clear()
        if self.stopping:
            return
        if self._watch:
            self._broken.append(number)
            log.warning("process %d waits for the next change of a .py file", number)
        elif self._served or any(child.serves for child in self.children):
            self._start_after(end, number, now)  # a reload gone wrong: the other processes serve on
        else:
            self.exit_code = CANNOT_START
            self._stop()

    def _start_after(self, end: End, number: int, now: float, why: str = "ended early") -> None:
        pause = self._pauses[number] = pause_seconds(end, self._pauses.get(number, 0.0))
        self._start_at[number] = now + pause
        if pause:
            log.warning("process %d %s; next start in %.1f s", number, why, pause)

    def _reclaim(self, child: Child) -> None:
        """Its jobs are back at once, not after its silence. Only those that had begun count a crash."""
        names = child.table.names()
        blame, now = child.table.blame(), time.monotonic()
        wary = is_wary(self._deaths, now)
        if blame.escaped and child.guilty is None:
            self._escapes.append(now)
        for number, service in enumerate(names):
            begun = child.guilty
            if begun is None:
                begun = [job.entry for job in blame.crashed if job.service == number]
            fate = f"worker {child.name} died: {child.fate()}"
            try:
                back, poisoned = self._own.reclaim(
                    service, names[service], fate,
                    begun=begun, ran=blame.ran, alone=blame.alone,
                    passed=[job.entry for job in blame.passed if job.service == number],
                    guilty=child.guilty is not None, unbegun_ms=_UNBEGUN_MS if wary else 0,
                )  # fmt: skip
            except RedisUnavailable as error:
                log.warning("%s; its jobs come back when its silence is noticed", error)
                if is_refusal(error) or self._own.connector.clustered:
                    continue  # the next service's may be taken back
                return
            self._count("poisoned", len(poisoned))
            if back or poisoned:
                log.warning("reclaimed service=%s jobs=%d poison=%s", service, back, ",".join(poisoned) or "none")

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for child in self.children:
            overdue = child.overdue(now)
            if overdue:
                self._count("hard_limit_kills", not child.killed)
                for running in overdue:
                    log.error("hard-limit job=%s: killing process %d", running.entry.partition("|")[0], child.number)
                child.kill("at a job's hard limit", guilty=[running.entry for running in overdue])
            elif child.stopping_since and now - child.stopping_since > self.options.grace_seconds + 10:
                log.error("process %d does not stop; killing it", child.number)
                child.kill("it did not stop", guilty=[])
            else:
                child.carry_out(now)

    def _attend(self, now: float) -> None:
        """See how each process is, by its own word and by its turns."""
        seconds, self._attended_at = now - self._attended_at, now
        for child in self.children:
            if not child.serves:
                continue
            vitals = child.table.vitals()
            child.declared = vitals.declared
            if child.declared < self._declare_order:
                child.tell(Told(declare=self._declare_order))
            overruns = 0 < vitals.limit_at < now - _OVERRUN_SECONDS
            if overruns != child.overran:
                child.overran, self._present_at = overruns, 0.0  # `fourlane status` need not wait to know
            if child.condemned or child.stopping_since is not None:
                continue
            if vitals.wrong:
                log.error("process %d pid=%d: %s; killing it", child.number, child.process.pid, vitals.wrong)
                child.condemn(vitals.wrong, guilty=None)
            else:
                self._watch_turns(child, vitals, seconds, now)

    def _watch_turns(self, child: Child, vitals: Vitals, seconds: float, now: float) -> None:
        patience = self.options.hung_seconds
        if child.quiet_seconds >= patience * PROBE_AFTER:
            self._probe(child, now)
        turned_at, busy = child.table.turned_at, bool(child.table.running())
        look = Look(
            seconds=seconds,
            turned=turned_at != child.turned_at,
            ran=vitals.pulse != child.pulse,
            excused=vitals.excused,
            busy=busy,
            stopped=vitals.pulse == child.pulse and child.is_stopped(),
            reached=self._reached,
        )
        child.turned_at, child.pulse = turned_at, vitals.pulse
        child.quiet_seconds = quiet_seconds(child.quiet_seconds, look)
        if child.quiet_seconds < PROBE_AFTER * patience:
            self._reached = True  # nobody needs to know
        elif child.quiet_seconds >= patience:
            log.error(
                "process %d pid=%d takes no turn, though Redis answers: seconds=%.0f held=%d running=%d; killing it",
                child.number, child.process.pid, now - turned_at, child.table.held,
                len(child.table.running()),
            )  # fmt: skip
            child.condemn("it took no turn, though Redis answered", guilty=[])

    def _probe(self, child: Child, now: float) -> None:
        """Whether Redis takes from us what it would take from this process: a write for each of its services."""
        if now - self._probed_at < _PROBE_SECONDS:
            return
        self._probed_at = now
        try:
            for service in child.table.names():
                key = self.store.service(service).workers
                self._link(key).command("ZADD", key, "XX", 0, "?")
            self._reached = True
        except RedisUnavailable as error:
            log.debug("%s", error)
            self._reached = False
            self._drop_links()

    def _declare_again(self) -> None:
        """For the keeper, in its thread: Redis lost what was declared. Returns when all is declared again."""
        self._declare_order += 1
        self._present_at = 0.0
        if self._declare is not None:
            self._declare()
        patience = time.monotonic() + _DECLARE_SECONDS
        while not all(child.declared >= self._declare_order for child in list(self.children) if child.serves):
            if time.monotonic() > patience:
                raise FourlaneError(f"not every worker process has declared its own within {_DECLARE_SECONDS:g} s")
            time.sleep(0.05)

    def _recycle(self, now: float) -> None:
        if self.stopping or any(c.stopping_since for c in self.children):
            return
        options = self.options
        for child in self.children:
            if (
                (options.recycle_jobs and child.table.finished >= options.recycle_jobs)
                or (options.recycle_seconds and now - child.started_at >= options.recycle_seconds)
                or (options.recycle_rss_mb and child.rss_mb() >= options.recycle_rss_mb)
            ):
                log.info(
                    "recycle process=%d jobs=%d rss_mb=%.0f",
                    child.number,
                    child.table.finished,
                    child.rss_mb(),
                )
                child.stop()
                return

    # Redis --------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Say of each process that holds jobs that it lives, and only of the services in which it does."""
        now = time.monotonic()
        by_service: dict[str, dict[str, Child]] = {}
        for child in self.children:
            holding = child.table.holding()
            if holding:
                for number, (service, name) in enumerate(child.table.names().items()):
                    if number in holding:
                        by_service.setdefault(service, {})[name] = child
        for service, holders in by_service.items():
            try:
                self._beat_for(service, holders)
            except RedisUnavailable as error:
                log.warning("%s", error)
                if is_refusal(error):
                    continue  # this service alone is in trouble
                self._drop_links()
                self._beaten_at -= BEAT_SECONDS - _BEAT_AGAIN_SECONDS  # the silence runs
                return
        for child in self.children:
            child.table.beat(now)

    def _beat_for(self, service: str, holders: dict[str, Child]) -> None:
        link = self._link(self.store.service(service).jobs)
        told = self.store.beat(link, service, list(holders), SILENCE_MS, self._cancels_since.get(service, 0))
        for name in told.lost:
            holders[name].tell(Told(lost=[(service, name)]))
        all_told = True
        if told.cancelled:
            for child in set(holders.values()):
                all_told = child.tell(Told(cancelled=told.cancelled)) and all_told
        if all_told:
            self._cancels_since[service] = told.since_ms

    def _link(self, key: bytes) -> Link:
        """A connection that tries once: what is not said now is said again soon, and the processes need us."""
        place = key if self._own.connector.clustered else b""
        link = self._links.get(place)
        if link is None:
            link = self._links[place] = self._own.connector.open(key)
        return link

    def _drop_links(self) -> None:
        for link in self._links.values():
            link.close()
        self._links.clear()
        try:
            self.store.connector.refresh()
        except RedisUnavailable as error:
            log.debug("%s", error)

    def _present(self) -> None:
        key = self.store.keys.presence
        for child in self.children:
            child.presented = child.serves
            names = child.table.names()
            info = {
                "host": socket.gethostname(),
                "pid": child.process.pid,
                "started_ms": self.started_ms,
                "seen_ms": int(time.time() * 1000),
                "queues": self.options.queues or [f"jobs.*.{service}" for service in names],
                "slots": self.options.slots,
                "concurrency": self.options.concurrency,
                "processes": self.options.processes,
                "names": names,
                "held": child.table.held,
                "overrun": _overrun(child.table.vitals()),
                "version": __version__,
            }
            try:
                for service in names:
                    self._own.announce(service)
                self._link(key).command("HSET", key, child.name, json.dumps(info))
                if self._gone:
                    self._link(key).command("HDEL", key, *self._gone)
                    self._gone.clear()
            except RedisUnavailable as error:
                log.warning("%s", error)
                self._drop_links()
                self._present_at -= _PRESENCE_SECONDS - 1.0  # soon again: it may have lost what it knew of us
                return

    def _absent(self) -> None:
        key = self.store.keys.presence
        try:
            present = self._link(key).command("HKEYS", key)
            mine = [n for n in present if n.decode().startswith(f"{socket.gethostname()}-{os.getpid()}-")]
            if mine:
                self._link(key).command("HDEL", key, *mine)
        except RedisUnavailable:
            pass  # readers drop it by its age


def _overrun(vitals: Vitals) -> dict[str, Any] | None:
    """The running job that passed its own time limit first, when that is some time ago."""
    over_ms = int((time.monotonic() - vitals.limit_at) * 1000)
    if not vitals.limit_at or over_ms < _OVERRUN_SECONDS * 1000:
        return None
    return {"job": vitals.job, "task": vitals.task, "over_ms": over_ms}
