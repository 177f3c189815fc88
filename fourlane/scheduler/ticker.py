"""The scheduler: makes a job for each nominal time of every schedule of the environment.

1. Ask each service what is due soon; the same call tells Redis's time, which is the only clock here.
2. Prepare the jobs (plan.py, firing.py), wait for their moment, and send them in batches (lua/schedule_fire.lua).
3. Sleep until the next one is due, or until somebody edits a schedule (sleep.py).

Any number may run. Whoever comes first leads while something is due, the others come a little later the next time;
what makes each nominal time happen once is the script, not the lead.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from typing import Final

from fourlane.errors import FourlaneError, RedisUnavailable
from fourlane.names import Queue, Tier
from fourlane.queues import control, schedules
from fourlane.queues.redis import Link, is_answer
from fourlane.queues.schedules import Fire, Schedule, State
from fourlane.queues.store import Store
from fourlane.scheduler.agenda import AHEAD_MS, LOOK_SECONDS, Agenda
from fourlane.scheduler.firing import left_by, put_off, requests
from fourlane.scheduler.sleep import Sleep
from fourlane.watchdog import Watchdog

__all__ = ["Scheduler", "start_scheduler"]

log = logging.getLogger("fourlane.scheduler")

_LEAD_MS: Final = 3_000
_MOST: Final = 10_000
_IDLE_MS: Final = 60_000
_LONGEST_PAUSE_SECONDS: Final = 5.0


def start_scheduler(store: Store, watchdog: Watchdog | None = None) -> Scheduler:
    """Run a scheduler in a thread; ``stop`` ends it."""
    scheduler = Scheduler(store, watchdog)
    threading.Thread(target=scheduler.run, name="fourlane-scheduler", daemon=True).start()
    return scheduler


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
        self._sleep = Sleep(store, self.watchdog, silent=self._close_links)
        self._agendas: dict[str, Agenda] = {}
        self._services_at = 0.0
        self._links: dict[str, Link] = {}

    def stop(self) -> None:
        """End run(); from any thread, and from signal handlers."""
        self._sleep.stop()

    def run(self) -> None:
        """Run until stopped. While Redis is away it tries again and again."""
        pause = 0.1
        self.watchdog.kick()
        while not self._sleep.stopping:
            try:
                self._rest(self._round())
                pause = 0.1
                continue
            except RedisUnavailable as error:
                log.warning("%s; trying again in %.1f s", error, pause)
                if is_answer(error):
                    self.watchdog.kick()
            except Exception:
                log.exception("the scheduler met an error of its own; trying again in %.1f s", pause)
            self._close_links()
            self._sleep.rest(pause)
            self._refresh()
            pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)
        self.watchdog.leave()
        self._close_links()
        self._sleep.close()

    def _round(self) -> float:
        """Do what is due in each service; returns the seconds until the next look."""
        now = time.monotonic()
        if now >= self._services_at:
            self._services_at = now + LOOK_SECONDS
            self._agendas = {s: self._agendas.get(s, Agenda()) for s in self.store.services()}
            for agenda in self._agendas.values():
                agenda.look_at = min(agenda.look_at, now)
        for service, agenda in self._agendas.items():
            if agenda.act_at() <= time.monotonic() and not self._sleep.stopping:
                if agenda.waiting:
                    self._send(service, agenda)
                else:
                    self._look(service, agenda)
                self.watchdog.kick()
        return min([self._services_at, *(agenda.act_at() for agenda in self._agendas.values())]) - time.monotonic()

    def _rest(self, seconds: float) -> None:
        """Until the next look; after an edit all services are looked at."""
        if self._sleep.sleep(seconds):
            self._services_at = 0.0
            for agenda in self._agendas.values():
                agenda.look_now()

    def _look(self, service: str, agenda: Agenda) -> None:
        """Ask what is due, and prepare it."""
        asked = time.monotonic()
        due = schedules.due(
            self.store, self._link(service), service, self.name, lead_ms=_LEAD_MS, ahead_ms=AHEAD_MS, most=_MOST
        )
        agenda.learn(due, asked)
        if due.word == "due":
            waiting: list[Fire] = []
            for schedule, state, text in due.found:
                waiting += self._prepare(schedule, state, text, due.now_ms, agenda.until_ms)
            agenda.wait_for(waiting)

    def _send(self, service: str, agenda: Agenda) -> None:
        """Send what has come to its moment, a batch of it."""
        fires, rest = agenda.take()
        if not fires:
            return
        asked = time.monotonic()
        now_ms, words = schedules.fire(self.store, self._link(service), service, fires)
        agenda.told(now_ms, asked)
        again = self._take_in(service, agenda, fires, words)
        if "moved" in words:
            agenda.look_now()  # another scheduler was here, or an edit: what is prepared may be void too
            return
        waiting = again + rest
        agenda.wait_for(waiting + self._go_on(agenda, fires, words, {fire.name for fire in waiting}))

    def _go_on(self, agenda: Agenda, fires: list[Fire], words: list[str], waiting: set[str]) -> list[Fire]:
        """What comes after what was decided, as long as it is due before the next look."""
        left = {fire.name: left_by(fire, word) for fire, word in zip(fires, words, strict=True)}
        more: list[Fire] = []
        for name, (text, due) in left.items():
            if text and 0 < due < agenda.until_ms and name not in waiting:
                state, now_ms = schedules.read_state(text), int(agenda.now_ms())
                more += self._prepare(agenda.schedules[name], state, text, now_ms, agenda.until_ms)
        return more

    def _prepare(self, schedule: Schedule, state: State, text: bytes, now_ms: int, until_ms: int) -> list[Fire]:
        try:
            fires = requests(schedule, state, text, now_ms, until_ms)
        except FourlaneError as error:
            log.error("schedule=%s cannot be planned: %s", schedule.name, error)
            return [put_off(schedule, text, now_ms + _IDLE_MS)]
        if not fires:
            self._drop(schedule, text)
        return fires

    def _drop(self, schedule: Schedule, text: bytes) -> None:
        """Its last time is long over."""
        schedules.write(self.store, schedule.service, [schedules.Write(schedule.name, text, b"")])
        log.info("dropped schedule=%s: its last run was a week ago", schedule.name)

    def _take_in(self, service: str, agenda: Agenda, fires: list[Fire], words: list[str]) -> list[Fire]:
        """Log what came of them; returns those to try again."""
        again: list[Fire] = []
        for fire, word in zip(fires, words, strict=True):
            schedule = agenda.schedules[fire.name]
            if word == "early":
                again.append(fire)
            elif word == "alive" and not fire.alive_state:  # replace
                place = Queue(service, Tier(int(fire.former[0])))
                was = control.cancel(self.store, fire.former, place, has_callbacks=lambda task: True)
                log.info("replace schedule=%s job=%s was=%s", fire.name, fire.former, was)
                again.append(fire._replace(former=""))
            elif word == "fired" and fire.entry:
                late = agenda.told_ms - int(fire.line.split(" ")[2])
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

    def _close_links(self) -> None:
        for link in self._links.values():
            link.close()
        self._links = {}
        self._sleep.close_link()
        for agenda in self._agendas.values():
            agenda.look_now()
