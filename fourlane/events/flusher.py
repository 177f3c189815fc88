"""Keeps events in the buffer while SQS cannot be reached, and sends them once it can."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from fourlane.errors import EventsRefused, EventsUnavailable
from fourlane.events.aws import BATCH
from fourlane.events.buffer import Buffer, Buffered
from fourlane.events.names import EventQueue, parse_sqs
from fourlane.events.sender import Sender
from fourlane.telling import tell

__all__ = ["Flusher"]

log = logging.getLogger("fourlane.events")

_DOWN_SECONDS: Final = 5.0
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0


class Flusher:
    """Its thread begins with the first event that waits.

    Parameters:
      max_bytes: the size limit of a batch.
    """

    def __init__(self, buffer: Buffer, sender: Sender, max_bytes: int) -> None:
        self.buffer = buffer
        self._sender = sender
        self._max_bytes = max_bytes
        self._closed = threading.Event()
        self._filled = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._down_until = 0.0
        if buffer.count():
            self._flush_soon()

    def others_wait(self, queue: EventQueue) -> bool:
        """Whether an event goes behind those in the buffer: SQS was down a moment ago, or order wants it."""
        return time.monotonic() < self._down_until or (queue.fifo and self.buffer.count(queue.sqs_name) > 0)

    def keep(self, queue: EventQueue, entries: Sequence[dict[str, Any]], why: EventsUnavailable) -> None:
        """Keep events until SQS takes them, all or none. Raises BufferFull."""
        self.buffer.put(queue.sqs_name, entries)
        tell.buffered(queue.sqs_name, len(entries))
        log.warning("buffer: %d event(s) for %s kept locally: %s", len(entries), queue.sqs_name, why)
        self._down_until = time.monotonic() + _DOWN_SECONDS
        self._flush_soon()

    def close(self) -> None:
        """Send what waits, if SQS takes it now; the rest stays in the file for the next process."""
        self._closed.set()
        self._filled.set()
        if self._thread is not None:
            self._thread.join()

    def _flush_soon(self) -> None:
        self._filled.set()
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fourlane-buffer", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            self._filled.wait()
            self._filled.clear()
            while self._flush():
                if self._closed.wait(pause):
                    break
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            else:
                pause = _FIRST_PAUSE_SECONDS
            if self._closed.is_set():
                return

    def _flush(self) -> int:
        """Returns how many still wait."""
        try:
            with self.buffer.sending() as mine:
                if mine:
                    for name in self.buffer.queues():
                        self._flush_queue(name)
            return self.buffer.count()
        except (sqlite3.Error, OSError) as error:
            log.error("buffer: %s cannot be read: %s", self.buffer.path, error)
            return 1
        except Exception:  # nobody would miss a thread that ended, but for the events
            log.exception("buffer: unexpected; trying again")
            return 1

    def _flush_queue(self, name: str) -> None:
        queue = parse_sqs(name)
        assert queue is not None
        while events := self._batch_of(name):
            failed = self._sender.send(queue, [event.entry for event in events])
            sent = [event for i, event in enumerate(events) if i not in failed]
            self.buffer.remove(sent)
            if sent:
                log.info("buffer: sent %d event(s) to %s", len(sent), name)
            refused = {i: e for i, e in failed.items() if isinstance(e, EventsRefused) and e.contents}
            for i, error in refused.items():  # those behind it must not wait for what never goes
                self.buffer.set_aside(events[i], str(error))
                where = f"{self.buffer.path}, table refused"
                log.error("buffer: an event for %s is refused for good, and lies in %s: %s", name, where, error)
            failed = {i: error for i, error in failed.items() if i not in refused}
            if failed:
                log.warning("buffer: %d event(s) for %s wait on: %s", len(failed), name, next(iter(failed.values())))
                return

    def _batch_of(self, name: str) -> list[Buffered]:
        batch: list[Buffered] = []
        size = 0
        for event in self.buffer.first(name, BATCH):
            size += len(event.entry["MessageBody"].encode())
            if batch and size > self._max_bytes:
                break
            batch.append(event)
        return batch
