"""Starts worker processes, beats for them, restarts, recycles and kills them, and answers with a true exit code.

It imports nothing of the user's, so that a reload reads new code, and user code cannot stop its beat. Each duty is an
object's of its own; this is the order in which they are done, and what signals and ends of processes mean.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from typing import Final

from fourlane.queues import browse
from fourlane.queues.store import Store
from fourlane.watchdog import STUCK
from fourlane.worker.process.background import Background, Outside, metrics_of
from fourlane.worker.process.beats import Beats
from fourlane.worker.process.checkup import Checkup
from fourlane.worker.process.child import Child
from fourlane.worker.process.deaths import Deaths
from fourlane.worker.process.health import Health, health_of
from fourlane.worker.process.links import Links
from fourlane.worker.process.options import Options
from fourlane.worker.process.orphans import reap_orphans
from fourlane.worker.process.overdue import kill_overdue
from fourlane.worker.process.places import Places
from fourlane.worker.process.protocol import CANNOT_START, CONTROLLED
from fourlane.worker.process.recycle import recycle
from fourlane.worker.process.redeclare import Redeclare
from fourlane.worker.process.reload import Reload
from fourlane.worker.process.signals import Signals
from fourlane.worker.process.worker_list import WorkerList

__all__ = ["Supervisor"]

log = logging.getLogger("fourlane.supervisor")

STOPPED_AT_ONCE: Final = 130  # what a shell reports of a program that Ctrl-C ended
_INIT: Final = 1  # the process that inherits orphans
_ANSWER_SECONDS: Final = 1.5  # a connection that is half open must not take the whole silence
_TICK_SECONDS: Final = 0.25
_START_TICK_SECONDS: Final = 0.05  # while one starts, of which others wait to hear


class Supervisor:
    """Runs in the main thread of ``fourlane worker``."""

    def __init__(
        self,
        store: Store,
        options: Options,
        on_ready: Callable[[], None] | None = None,
        outside: Callable[[], Outside] | None = None,
        declare: Callable[[], None] | None = None,
    ) -> None:
        """``declare`` writes what settings declare; it was called before, and is again when Redis loses its data.

        ``outside`` gives who looks beyond the queues: only when somebody wants to know, for that takes memory.
        """
        self.store = store
        self.options = options
        self.on_ready = on_ready
        self.outside = outside
        self.stopping = False
        self.exit_code = 0
        self._looked_at = time.monotonic()
        self._signals = Signals(options.profile)
        self._places = Places(options.processes, self._start)
        self.children = self._places.children
        self._reload = Reload(self._places, options.processes, options.watch)
        self.metrics = metrics_of(store, options, outside, self.children)
        # Who does not answer holds the main thread up for a moment only.
        quick = store.answering_within(_ANSWER_SECONDS)
        links = Links(quick.connector)
        self._beats = Beats(quick, links)
        self._deaths = Deaths(quick, self._count)
        self._worker_list = WorkerList(quick, links, options)
        self._checkup = Checkup(quick, links, options.hung_seconds, self._worker_list.hurry)
        self._redeclare = Redeclare(self._places, declare, self._worker_list.hurry)

    def run(self) -> int:
        """Run until stopped; returns the exit code."""
        self._signals.hear()
        self._places.open()
        background = Background(
            self.store, self.options, self.metrics, declare_again=self._redeclare, end_stuck=self.end_stuck
        )
        try:
            browse.workers(self.store)  # forgets those long lost, which bounds their list
            while self.children or not self.stopping:
                self._tick()
                self._signals.wait(_TICK_SECONDS if self._places.all_serve() else _START_TICK_SECONDS)
        finally:
            background.stop()
            self._signals.close()
            for child in self.children:
                child.process.kill()
            self._worker_list.end()
            background.close()
        return self.exit_code

    def health(self) -> Health:
        """For the probe, from another thread."""
        return health_of(self.children, self.options.processes, self._looked_at, stopping=self.stopping)

    def end_stuck(self) -> None:
        """Stop as on SIGTERM, but tell by the exit code that something here did no work any more; from any thread."""
        self.exit_code = STUCK
        self._signals.raise_here(signal.SIGTERM)

    def _tick(self) -> None:
        for number in self._signals.take():
            self._signalled(number)
        now = self._looked_at = time.monotonic()
        for child in self._places.leave():
            self._ended(child, now)
        if os.getpid() == _INIT:
            reap_orphans([child.process.pid for child in self.children])
        self._places.take(now)
        for child in self.children:
            child.flush()
        self._deaths.grant(self.children, self.options.processes, now)
        if self._beats.are_due(now):
            self._beats.beat(self.children)
            if not self.stopping:
                recycle(self.children, self.options, now)
        kill_overdue(self.children, self.options.grace_seconds, self._count)
        self._checkup.look(self.children, self._redeclare.order, now)
        self._tell_ready()
        self._worker_list.look(self.children, now)
        if changed := self._reload.look(now):
            self._begin_reload(f"{changed} changed")
        self._reload.go_on()

    def _start(self, number: int) -> Child:
        folder = self.metrics.folder if self.metrics is not None else ""
        return Child(number, self.options, folder, self._redeclare.order)

    def _tell_ready(self) -> None:
        """Once, when all processes serve for the first time."""
        if self.on_ready is not None and self._places.are_taken():
            self.on_ready()
            self.on_ready = None

    def _count(self, name: str, number: int) -> None:
        if self.metrics is not None:
            self.metrics.counts[name] += number

    # Signals ------------------------------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        if number == signal.SIGHUP and not self._signals.terminal_is_gone():
            self._begin_reload("SIGHUP")
        elif number in self._signals.passed_on:
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

    def _begin_reload(self, why: str) -> None:
        if not self.stopping:
            self._reload.begin(why)

    def _stop(self) -> None:
        self.stopping = True
        self._reload.give_up()
        self._places.stop()

    # Ends of processes --------------------------------------------------------------------------------------

    def _ended(self, child: Child, now: float) -> None:
        self._worker_list.left(child.name)
        if self.metrics is not None:
            self.metrics.process_ended(child.name)
        left = child.left()
        if not left:
            self._deaths.note(child, now)
        if not left or child.table.running():  # a task may end its process with exit code 0 too
            self._deaths.reclaim(child)
        end = child.end(now)
        child.close()
        if child.process.returncode == CANNOT_START:
            self._reload.give_up()
        if self.stopping:
            if not left and self.exit_code == 0:
                self.exit_code = 1
        elif child.process.returncode != CANNOT_START:
            self._places.take_again(end, child.number, now)
        elif self._reload.watches:
            self._places.wait_for_edit(child.number)
        elif self._places.have_served():
            self._places.take_again(end, child.number, now)  # a reload gone wrong: the other processes serve on
        else:
            self.exit_code = CANNOT_START
            self._stop()
