"""Kept spans on their way to the collector: a bounded queue and one thread. A collector in trouble costs spans, never
a job: what the queue has no room for, and what the collector did not take, is counted and told once a minute.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from fourlane.redact import redact_text
from fourlane.telling import tell
from fourlane.telling.seldom import AtMostOnce

__all__ = ["SpanQueue"]

log = logging.getLogger("fourlane.observe")

_MOST: Final = 4_096
_BATCH: Final = 512
_SEND_SECONDS: Final = 1.0
_WARN_SECONDS: Final = 60.0


class SpanQueue:
    """Takes spans from any thread and never waits. The thread starts with the first span, anew in a forked child.

    Parameters:
      where: the collector, for the warning.
      most: so many spans wait; what comes then is dropped.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        where: str,
        *,
        most: int = _MOST,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.exporter = exporter
        self.where = where
        self.most = most
        self._gate = AtMostOnce(_WARN_SECONDS, now)
        self._begin_anew()
        os.register_at_fork(after_in_child=self._begin_anew)  # the parent's spans are the parent's

    def _begin_anew(self) -> None:
        self._started = False
        self._waiting: deque[ReadableSpan] = deque()
        self._changed = threading.Condition()
        self._sending = False
        self._in_haste = False
        self._lost = 0  # since the last warning

    def add(self, span: ReadableSpan) -> None:
        """Take one more span, or drop it where there is no room."""
        if not self._started:
            self._start()
        if len(self._waiting) >= self.most:
            self._lose(1)
            return
        self._waiting.append(span)
        if len(self._waiting) == _BATCH:
            with self._changed:
                self._changed.notify_all()

    def _start(self) -> None:
        with self._changed:
            if not self._started:
                self._started = True
                threading.Thread(target=self._run, name="fourlane-spans", daemon=True).start()

    def flush(self, seconds: float) -> bool:
        """Send what waits now; True when all is sent, or lost, within so many seconds."""
        with self._changed:
            if not self._started:
                return True
            self._in_haste = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._waiting and not self._sending, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._in_haste or len(self._waiting) >= _BATCH, _SEND_SECONDS)
                self._sending, self._in_haste = True, False
            try:
                while self._waiting:
                    self._send()
            finally:
                with self._changed:
                    self._sending = False
                    self._changed.notify_all()

    def _send(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            result = self.exporter.export(batch)
        except Exception as error:
            log.debug("export: %s", error)
            result = SpanExportResult.FAILURE
        finally:
            detach(token)
        if result is not SpanExportResult.SUCCESS:
            self._lose(len(batch))

    def _lose(self, number: int) -> None:
        self._lost += number
        tell.counted("trace_spans_dropped", (), number)
        if self._gate.passes():
            lost, self._lost = self._lost, 0
            log.warning("traces: %s did not take %d span(s); jobs go on", redact_text(self.where), lost)
