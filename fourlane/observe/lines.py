"""The log lines of a worker: how jobs ended, and what its loop met."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any, Final

from fourlane.errors import Foreseen
from fourlane.observe.logs import of_run, of_service
from fourlane.outcome import Back, Cancel, Dead, Outcome, Postpone, Retry
from fourlane.telling import Observer

__all__ = ["Lines", "LinesOfAll", "Parked"]

log = logging.getLogger("fourlane.worker")

_LINE_SECONDS: Final = 60.0
_DISCARDED: Final = (
    "discarded job=%s task=%s: nobody keeps what it returns. Consider adding the Results middleware, or send it on."
)


class Lines(Observer):
    """One line for each job that ended otherwise than done, and for what the loop does to jobs."""

    def __init__(self) -> None:
        self._parked = Parked()

    def ended(self, run: Any, outcome: Outcome, error: BaseException | None) -> None:
        what = _what(run)
        match outcome:
            case Retry(delay_ms, _, words):
                line = "retry job=%s task=%s attempt=%d ms=%.1f again_in_ms=%d error=%s"
                log.log(logging.INFO if run.expected else logging.WARNING, line, *what, delay_ms, words)
            case Dead(reason, words):
                line = "dead job=%s task=%s attempt=%d ms=%.1f reason=%s error=%s"
                with_traceback = None if run.expected or isinstance(error, Foreseen) else _printable(error)
                level = logging.INFO if run.expected else logging.ERROR
                log.log(level, line, *what, reason, words, exc_info=with_traceback)
            case Postpone(delay_ms, _, unknown) if unknown:
                self._parked.tell(run.id, unknown, delay_ms)
            case Postpone(delay_ms):
                log.info("postponed job=%s task=%s attempt=%d ms=%.1f again_in_ms=%d", *what, delay_ms)
            case Cancel():
                log.info("cancelled job=%s task=%s attempt=%d ms=%.1f", *what)
            case Back():
                log.info("given-back job=%s task=%s attempt=%d ms=%.1f", *what)
            case _:
                self.done(run)

    def skipped(self, run: Any, why: str) -> None:
        log.warning("skipped job=%s task=%s: %s", run.id, run.plan.name, why, extra=of_run(run))

    def discarded(self, run: Any) -> None:
        log.warning(_DISCARDED, run.id, run.plan.name, extra=of_run(run))

    def result_refused(self, run: Any, why: str) -> None:
        line = "result-refused job=%s task=%s: it is done, its result is not kept: %s"
        log.error(line, run.id, run.plan.name, why, extra=of_run(run))

    def undecided(self, run: Any, detail: str, fault: BaseException) -> None:
        line = "undecided job=%s task=%s: %s"
        log.error(line, run.leased.entry, run.plan.name, detail, exc_info=fault, extra=of_run(run))

    def serving(self, service: str) -> None:
        log.info("serving service=%s too: it was declared since the start", service, extra=of_service(service))

    def promoted(self, service: str, jobs: int) -> None:
        line = "promoted service=%s jobs=%d: others did not know their tasks"
        log.info(line, service, jobs, extra=of_service(service))

    def stale(self, service: str, runs: Sequence[Any]) -> None:
        for run in runs:
            line = "stale job=%s task=%s: its lease was lost, it runs again"
            log.warning(line, run.id, run.plan.name, extra=of_run(run))

    def refused(self, service: str, number: int) -> None:
        line = "stale %d settlement(s) of %s refused: the leases were lost"
        log.warning(line, number, service, extra=of_service(service))

    def leases_lost(self, service: str, worker: str, running: int) -> None:
        line = "lost service=%s worker=%s: %d running job(s) will not count"
        log.warning(line, service, worker, running, extra=of_service(service))

    def reclaimed(self, service: str, worker: str, jobs: int, poison: int) -> None:
        line = "reclaimed service=%s worker=%s jobs=%d poison=%d"
        log.warning(line, service, worker, jobs, poison, extra=of_service(service))

    def dropped(self, service: str, letters: int) -> None:
        line = "dropped %d old dead letter(s) of %s: over their number or age"
        log.warning(line, letters, service, extra=of_service(service))

    def abandoned(self, run: Any) -> None:
        line = "given-back job=%s task=%s: it did not end within the grace"
        log.warning(line, run.id, run.plan.name, extra=of_run(run))


class LinesOfAll(Lines):
    """One for each job that is done too (``--log-jobs``)."""

    def done(self, run: Any) -> None:
        log.info("done job=%s task=%s attempt=%d ms=%.1f", *_what(run))


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


def _what(run: Any) -> tuple[str, str, int, float]:
    """The job, its task, the attempt and the milliseconds that it took."""
    seconds = time.monotonic() - run.started if run.started else 0.0
    return run.id, run.plan.name or run.envelope.task, run.attempt, seconds * 1000


def _printable(error: BaseException | None) -> BaseException | None:
    """The error, when it has a traceback that any handler can write."""
    if error is None or error.__traceback__ is None:
        return None
    try:
        "".join(traceback.format_exception(error)).encode()
    except BaseException:  # its text raises, or has half of a surrogate pair
        return None
    return error
