"""Fourlane's worker with the face of dramatiq's: its loop in a thread of the test."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from fourlane.names import Queue, Tier
from fourlane.observe.lines import Lines
from fourlane.queues import control
from fourlane.telling import tell
from fourlane.worker.loop.loop import Loop

tell.add(Lines())  # as a worker process does


class LoopWorker:
    """Begins with the first message, for these tests declare actors and middleware after they start their worker."""

    begun: ClassVar[list[LoopWorker]] = []
    """Those that wait for a message or run."""

    def __init__(
        self, broker: Any, *, queues: set[str] | None = None, worker_timeout: int = 1000, worker_threads: int = 8
    ) -> None:
        self.broker = broker
        self._queues = queues
        self.worker_timeout = worker_timeout
        self._slots = worker_threads
        self._paused = False
        self._loop: Loop | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self.begun.append(self)

    def begin(self) -> None:
        if self._loop is not None:
            return
        if self._paused:
            self.pause()  # queues that are declared by now
        served = self.broker.get_declared_queues()
        if self._queues is not None:
            served &= self._queues
        services = {self.broker.queue_of(name).service for name in served}
        queues = [Queue(service, tier) for service in services for tier in Tier]
        self._loop = Loop(self.broker, queues, name="compat", slots=self._slots, grace_seconds=5.0)
        self.broker.emit_before("worker_boot", self._loop)
        self._thread = threading.Thread(target=self._loop.run, name="compat-loop", daemon=True)
        self._thread.start()
        self.broker.emit_after("worker_boot", self._loop)

    def join(self) -> None:
        for name in self.broker.get_declared_queues():
            self.broker.join(name, fail_fast=False)

    def pause(self) -> None:
        self._paused = True
        for name in self.broker.get_declared_queues():
            control.pause(self.broker.store, self.broker.queue_of(name))

    def resume(self) -> None:
        self._paused = False
        for name in self.broker.get_declared_queues():
            control.resume(self.broker.store, self.broker.queue_of(name))

    def stop(self, timeout: int = 600_000) -> None:
        if self in self.begun:
            self.begun.remove(self)
        if self._loop is None or self._thread is None or self._loop.stopping:
            return
        self.broker.emit_before("worker_shutdown", self._loop)
        self._loop.stop()
        self._thread.join(10)
        assert not self._thread.is_alive(), "the loop did not stop"
        self.broker.emit_after("worker_shutdown", self._loop)
