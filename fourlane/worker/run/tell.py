"""The log lines that tell how jobs ended."""

from __future__ import annotations

import logging
import time
import traceback

from fourlane.outcome import Back, Cancel, Dead, Outcome, Postpone, Retry
from fourlane.worker.run.run import Run
from fourlane.worker.run.unknown import Parked

__all__ = ["tell"]

log = logging.getLogger("fourlane.worker")

_parked = Parked()


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
