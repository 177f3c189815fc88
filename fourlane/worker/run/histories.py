"""Tells the histories of schedules how their jobs ended. Jobs that no schedule made never come here."""

from __future__ import annotations

import logging
import threading
import time
from queue import Empty, SimpleQueue
from typing import Final

from fourlane import job
from fourlane.errors import RedisUnavailable
from fourlane.outcome import Cancel, Dead, Done, Outcome, Result
from fourlane.queues import schedules
from fourlane.queues.broker import RedisBroker
from fourlane.worker.run.run import Run

__all__ = ["Histories"]

log = logging.getLogger("fourlane.worker")

_WORDS: Final = {Done: "done", Result: "done", Cancel: "cancelled", Dead: "dead"}
_IDLE_SECONDS: Final = 5.0


class Histories:
    """One thread, while there is something to tell. An end that cannot be told is only missing in the history."""

    def __init__(self, broker: RedisBroker) -> None:
        self.broker = broker
        self._queue: SimpleQueue[tuple[str, str, str]] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def tell(self, run: Run, outcome: Outcome) -> None:
        """The job of this run has ended so. Histories that are none (a retry, a deploy) are not told."""
        options = run.envelope.options
        word, schedule = _WORDS.get(type(outcome)), options.get("schedule")
        if word is None or not schedule:
            return
        took_ms = int((time.monotonic() - run.started) * 1000)
        started_ms = int(time.time() * 1000) - took_ms
        job_id = job.id_of_entry(run.leased.entry)
        line = f"e {options['scheduled_for']} {job_id} {word} {started_ms} {took_ms}"
        with self._lock:
            self._queue.put((run.service.name, schedule, line))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fourlane-histories", daemon=True)
                self._thread.start()

    def close(self, timeout_seconds: float) -> None:
        """Wait until all is told, but no longer than this."""
        with self._lock:
            thread = self._thread
            self._queue.put(("", "", ""))
        if thread is not None:
            thread.join(timeout_seconds)

    def _run(self) -> None:
        while True:
            try:
                service, schedule, line = self._queue.get(timeout=_IDLE_SECONDS)
            except Empty:
                with self._lock:
                    if self._queue.empty():
                        self._thread = None
                        return
                continue
            if not service:
                return
            try:
                schedules.ended(self.broker.store, service, schedule, line)
            except RedisUnavailable as error:
                log.warning("the end of a job of schedule %s is not in its history: %s", schedule, error)
