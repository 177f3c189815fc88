"""What a worker process tells (worker/run/observer.py), passed on to those parts that are on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fourlane.observe.counts import count
from fourlane.observe.metrics import Writer
from fourlane.observe.setup import SLOW_SECONDS
from fourlane.outcome import PLAIN, Outcome

if TYPE_CHECKING:
    from fourlane.observe.jobspans import Spans
    from fourlane.observe.sentry import Reports

__all__ = ["WorkerObserver"]


log = logging.getLogger("fourlane.observe")


class WorkerObserver:
    """One for a process. A part that fails says so, and the jobs go on."""

    def __init__(self, writer: Writer | None, spans: Spans | None, reports: Reports | None) -> None:
        self.writer = writer
        self.spans = spans
        self.reports = reports
        self.begins = reports is not None
        self.began = _nothing if reports is None else reports.began

    def failed(self, run: Any, error: BaseException, outcome: Outcome) -> None:
        if self.reports is None:
            return
        try:
            self.reports.failed(run, error, outcome)
        except Exception:
            log.warning("an error could not be reported", exc_info=True)

    def turned(self, service: str, ended: list[tuple[Any, Outcome]]) -> None:
        try:
            # Most runs have nothing to say, and all that is looked at here is paid for by every job.
            plain = [
                run.plan
                for run, outcome in ended
                if outcome is PLAIN and run.trace is None and run.ended_at - run.started <= SLOW_SECONDS
            ]
            if self.writer is not None:
                count(service, ended, plain)
            special = [] if len(plain) == len(ended) else [pair for pair in ended if _is_special(*pair)]
            if self.spans is not None:
                self.spans.ended(service, special, ended)
            if self.reports is not None:
                self.reports.ended(special)
        except Exception:
            log.warning("a turn could not be counted", exc_info=True)

    def pause(self, now: float) -> float | None:
        return None if self.writer is None else self.writer.write(now)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.flush()
        if self.spans is not None:
            self.spans.close()
        if self.reports is not None:
            self.reports.close()


def _is_special(run: Any, outcome: Outcome) -> bool:
    return outcome is not PLAIN or run.trace is not None or run.ended_at - run.started > SLOW_SECONDS


def _nothing(run: Any) -> None:
    """No part wants to know of a begin."""
