"""The log lines that tell how jobs ended."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from typing import Final

from fourlane.outcome import Back, Cancel, Dead, Outcome, Postpone, Retry
from fourlane.worker.run.run import Run

__all__ = ["Parked", "tell"]

log = logging.getLogger("fourlane.worker")

_LINE_SECONDS: Final = 60.0


def tell(run: Run, outcome: Outcome, raised: BaseException | None, *, done: bool) -> None:
    """Log how a run ended; that it is done only where ``done`` asks for it. Never raises: the outcome stands."""
    try:
        _tell(run, outcome, raised, done)
    except Exception as error:  # a filter or handler of the user's own
        try:
            log.error("the end of a job could not be logged: %s", type(error).__name__)
        except Exception:
            return  # logging itself is broken: nothing is left to tell it with


def _tell(run: Run, outcome: Outcome, raised: BaseException | None, done: bool) -> None:
    seconds = time.monotonic() - run.started if run.started else 0.0
    what = (run.id, run.plan.name or run.envelope.task, getattr(run, "attempt", 1), seconds * 1000)
    match outcome:
        case Retry(delay_ms, _, error):
            level = logging.INFO if run.expected else logging.WARNING
            log.log(level, "retry job=%s task=%s attempt=%d ms=%.1f again_in_ms=%d error=%s", *what, delay_ms, error)
        case Dead(reason, detail):
            level = logging.INFO if run.expected else logging.ERROR
            with_traceback = None if run.expected else _printable(raised)
            line = "dead job=%s task=%s attempt=%d ms=%.1f reason=%s error=%s"
            log.log(level, line, *what, reason, detail, exc_info=with_traceback)
        case Postpone(delay_ms, _, unknown) if unknown:
            _parked.tell(run.id, unknown, delay_ms)
        case Postpone(delay_ms):
            log.info("postponed job=%s task=%s attempt=%d ms=%.1f again_in_ms=%d", *what, delay_ms)
        case Cancel():
            log.info("cancelled job=%s task=%s attempt=%d ms=%.1f", *what)
        case Back():
            log.info("given-back job=%s task=%s attempt=%d ms=%.1f", *what)
        case _ if done:
            log.info("done job=%s task=%s attempt=%d ms=%.1f", *what)


def _printable(error: BaseException | None) -> BaseException | None:
    """The error, when it has a traceback that any handler can write."""
    if error is None or error.__traceback__ is None:
        return None
    try:
        "".join(traceback.format_exception(error)).encode()
    except BaseException:  # its text raises, or has half of a surrogate pair
        return None
    return error


class Parked:
    """Tells of parked jobs: one line a minute for each task, however many there are."""

    def __init__(self, seconds: float = _LINE_SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._lines: dict[str, tuple[float, int]] = {}  # by task: when the last line was, how many came since

    def tell(self, job_id: str, task: str, again_in_ms: int) -> None:
        now = time.monotonic()
        with self._lock:
            told_at, since = self._lines.get(task, (-self._seconds, 0))
            is_time = now - told_at >= self._seconds
            self._lines[task] = (now, 0) if is_time else (told_at, since + 1)
        if is_time:
            log.warning("unknown-task task=%s jobs=%d job=%s again_in_ms=%d", task, since + 1, job_id, again_in_ms)


_parked = Parked()
