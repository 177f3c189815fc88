"""The soft timeout: a function that runs for longer than its time limit is interrupted. The hard limit is the
supervisor's (worker/process/overdue.py)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from dramatiq.middleware import TimeLimitExceeded

from fourlane.worker.run.quietly import quietly
from fourlane.worker.run.run import Run

__all__ = ["SoftTimeouts", "deadline_of"]

_LOOK_SECONDS: Final = 0.05


def deadline_of(run: Run) -> float:
    """When its time limit ends, by its own option or its task's, on the monotonic clock; 0.0 where it has none.

    Any thread may ask, of a run that has not begun and of an option that is yet to be refused too.
    """
    limit_ms: Any = run.envelope.options.get("time_limit") or run.plan.timeout_ms
    return run.started + limit_ms / 1000 if run.started and isinstance(limit_ms, (int, float)) else 0.0


class SoftTimeouts:
    """A thread that looks after the deadlines of all that runs."""

    def __init__(
        self,
        running: Callable[[], Iterable[Run]],
        interrupt: Callable[[Run, type[BaseException]], None],
        also: Callable[[float], None],
    ) -> None:
        """``also`` is called with each look, whose moment it is given."""
        self._running = running
        self._interrupt = interrupt
        self._also = also
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        thread = threading.Thread(target=self._watch, name="fourlane-watch", daemon=True)
        thread.start()
        self._thread = thread

    def stop(self) -> None:
        self._stopped = True

    def fault(self) -> str:
        """What keeps it from looking; empty when nothing does."""
        died = self._thread is not None and not self._thread.is_alive() and not self._stopped
        return "the thread that watches time limits has ended" if died else ""

    def _watch(self) -> None:
        while not self._stopped:
            time.sleep(_LOOK_SECONDS)
            quietly(self._look)

    def _look(self) -> None:
        now = time.monotonic()
        for run in self._running():
            if 0 < run.deadline <= now:
                self._interrupt(run, TimeLimitExceeded)
        self._also(now)
