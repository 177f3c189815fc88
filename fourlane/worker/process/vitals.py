"""Tells the supervisor, from a thread of its own, how a worker process is. The main thread may be what ails it."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

from fourlane.observe import logs
from fourlane.readable import readable
from fourlane.worker.process import stacks
from fourlane.worker.run.soft_timeout import deadline_of
from fourlane.worker.table import Table, Vitals

if TYPE_CHECKING:
    from fourlane.worker.loop.loop import Loop
    from fourlane.worker.process.declarations import Declarations

__all__ = ["Reporter"]

log = logging.getLogger("fourlane.worker")

_SECONDS: Final = 1.0


class Reporter:
    """Writes the vitals each second, and shows stacks at SIGUSR1. Make it in the main thread.

    Python runs signal handlers in the main thread, which may hang: what the signal itself writes to a pipe is heard
    here.
    """

    def __init__(self, loop: Loop, table: Table, declarations: Declarations) -> None:
        self._loop = loop
        self._declarations = declarations
        self._table = table
        self._pulse = 0
        self._main = threading.main_thread()
        self._out, caught = os.pipe()
        os.set_blocking(caught, False)
        signal.set_wakeup_fd(caught, warn_on_full_buffer=False)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        threading.Thread(target=self._run, name="fourlane-health", daemon=True).start()

    def _run(self) -> None:
        due = time.monotonic()
        while True:
            now = time.monotonic()
            if due <= now:
                due = now + _SECONDS
                try:
                    self._table.publish_vitals(self._look())
                    logs.hear_ours_again()
                except Exception:
                    log.exception("looking after this process met an error of its own")
            if readable([self._out], due - now) and signal.SIGUSR1 in os.read(self._out, 4096):
                stacks.show(self._loop.executor)

    def _look(self) -> Vitals:
        self._pulse += 1
        wrong = self._loop.executor.healthy()
        if not self._main.is_alive():
            wrong = "its main thread ended"
        now = time.monotonic()
        limited = [(at, run) for run in self._loop.executor.running() if (at := deadline_of(run)) > 0]
        at, run = min(limited, key=lambda pair: pair[0], default=(0.0, None))
        return Vitals(
            pulse=self._pulse,
            excused=all(service.is_blocked(now) for service in self._loop.services),
            wrong=wrong[:150],
            declared=self._declarations.done,
            limit_at=at,
            job=run.id[:150] if run is not None else "",
            task=run.plan.name[:80] if run is not None else "",
        )
