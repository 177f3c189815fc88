"""Receives: long polls in threads, as many as there is work for. A Worker sees to the messages."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable
from typing import Final, Protocol

from fourlane.errors import EventsUnavailable
from fourlane.events import messages
from fourlane.events.aws import BATCH, LONG_POLL_SECONDS, Aws
from fourlane.events.messages import Message
from fourlane.events.names import EventQueue
from fourlane.watchdog import Watchdog

__all__ = ["VISIBILITY_SECONDS", "Receivers", "Worker"]

log = logging.getLogger("fourlane.events")

VISIBILITY_SECONDS: Final = 60
_LONGEST_PAUSE_SECONDS: Final = 30.0


class Worker(Protocol):
    """What takes the messages."""

    def room(self, queue: EventQueue) -> int:
        """How many messages it wants now; waits while it wants none. 0 only when it stops."""

    def take(self, queue: EventQueue, received: list[Message]) -> None:
        """See to these messages. It raises nothing."""


class Receivers:
    """The threads that receive from some queues.

    1. Each queue has one thread in a long poll: an idle queue costs three calls a minute.
    2. One that came back full starts another, up to ``most``; each but the first ends with its first empty receive.
    3. A queue that cannot be reached, or is gone, is asked again after pauses of up to 30 s. Others go on.
    """

    def __init__(
        self,
        aws: Aws,
        worker: Worker,
        queues: Iterable[EventQueue],
        *,
        most: int = 4,
        wait_seconds: int = LONG_POLL_SECONDS,
        visibility_seconds: int = VISIBILITY_SECONDS,
        watchdog: Watchdog | None = None,
    ) -> None:
        self.aws = aws
        self.worker = worker
        self.watchdog = watchdog or Watchdog()
        self.most = most
        self.wait_seconds = wait_seconds
        self.visibility_seconds = visibility_seconds
        self.stopping = threading.Event()
        self._changed = threading.Condition()
        self._threads: dict[EventQueue, int] = dict.fromkeys(queues, 0)
        self._busy = 0

    def start(self) -> None:
        for queue in self._threads:
            self._start(queue, extra=False)

    def stop(self) -> None:
        """Receive no more."""
        self.stopping.set()

    def join(self, seconds: float) -> bool:
        """Wait until no thread has messages in hand. Long polls that have none are left to themselves."""
        with self._changed:
            return self._changed.wait_for(lambda: self._busy == 0, seconds)

    def threads(self, queue: EventQueue) -> int:
        """How many receive from this queue now."""
        with self._changed:
            return self._threads[queue]

    def _start(self, queue: EventQueue, *, extra: bool) -> None:
        with self._changed:
            if extra and self._threads[queue] >= self.most:
                return
            self._threads[queue] += 1
        threading.Thread(target=self._run, args=(queue, extra), name=f"receive-{queue.event}", daemon=True).start()

    def _run(self, queue: EventQueue, extra: bool) -> None:
        try:
            self._poll(queue, extra)
            self.watchdog.leave()
        finally:
            with self._changed:
                self._threads[queue] -= 1

    def _poll(self, queue: EventQueue, extra: bool) -> None:
        failures = 0
        while not self.stopping.is_set():
            self.watchdog.kick(math.inf)  # handlers may take hours, and have limits of their own
            most = min(BATCH, self.worker.room(queue))
            if most <= 0:
                return
            self.watchdog.kick(self.wait_seconds)
            try:
                received = messages.receive(
                    self.aws,
                    queue,
                    most=most,
                    wait_seconds=self.wait_seconds,
                    visibility_seconds=self.visibility_seconds,
                )
            except EventsUnavailable as error:
                failures += 1
                pause = min(_LONGEST_PAUSE_SECONDS, 0.5 * 2 ** min(failures, 10))
                (log.error if failures == 1 else log.warning)("%s; next try in %.0f s", error, pause)
                self.watchdog.kick(pause)
                self.stopping.wait(pause)
                continue
            except Exception:
                log.exception("receive from %s failed", queue.sqs_name)
                self.stopping.wait(_LONGEST_PAUSE_SECONDS)
                continue
            if failures:
                failures = 0
                log.info("%s can be reached again", queue.sqs_name)
            self.watchdog.kick()
            if received:
                self._take(queue, received, full=len(received) == most)
            elif extra:
                return

    def _take(self, queue: EventQueue, received: list[Message], *, full: bool) -> None:
        with self._changed:
            self._busy += 1
        try:
            if self.stopping.is_set():
                messages.change_visibility(self.aws, queue, received, 0)
                return
            if full:
                self._start(queue, extra=True)
            self.worker.take(queue, received)
        except Exception:
            log.exception("events of %s: they come again after %d s", queue.sqs_name, self.visibility_seconds)
            time.sleep(1)
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()
