"""A message that is being handled straight from SQS, and how its handler is interrupted."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from fourlane.events.messages import Message
from fourlane.events.names import EventQueue
from fourlane.events.tries import NONE
from fourlane.tasks.context import CancelToken
from fourlane.worker.run.interrupt import raise_in_thread, take_back

__all__ = ["Delivery", "Interruptible"]


class Interruptible:
    """Runs one handler after the other in a thread; another thread may raise an error in the one that runs."""

    def __init__(self) -> None:
        self.deadline = 0.0
        """When the handler's time is over, on the monotonic clock; 0: it has none."""
        self._thread = 0
        self._interrupted: type[BaseException] | None = None
        self._awaiting: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._lock = threading.Lock()

    def arm(self, deadline: float) -> None:
        """A handler begins in this thread."""
        with self._lock:
            self._thread, self.deadline, self._interrupted = threading.get_ident(), deadline, None

    def disarm(self) -> None:
        """It has ended: what was sent and has not arrived is taken back."""
        with self._lock:
            if self._thread and self._interrupted is not None:
                take_back(self._thread)
            self._thread, self.deadline = 0, 0.0

    def wait_for(self, awaitable: Any) -> Any:
        """Await it in this thread; an interrupt cancels it, for no error reaches a thread that waits in a loop."""

        async def main() -> Any:
            task = asyncio.current_task()
            assert task is not None
            with self._lock:
                if self._interrupted is not None:
                    task.cancel()
                self._awaiting = (asyncio.get_running_loop(), task)
            try:
                return await awaitable
            finally:
                with self._lock:
                    self._awaiting = None

        try:
            return asyncio.run(main())
        except asyncio.CancelledError:
            if self._interrupted is None:
                raise
            raise self._interrupted from None

    def interrupt(self, kind: type[BaseException]) -> None:
        """Raise an error in the handler, once."""
        with self._lock:
            if not self._thread or self._interrupted is not None:
                return
            self._interrupted, self.deadline = kind, 0.0
            if self._awaiting is not None:
                loop, task = self._awaiting
                loop.call_soon_threadsafe(task.cancel)
            else:
                raise_in_thread(self._thread, kind)


class Delivery:
    """One message."""

    def __init__(self, queue: EventQueue, message: Message, worker: str) -> None:
        self.queue = queue
        self.message = message
        self.owner = f"{worker}-{id(self):x}"  # one process may be given the same event twice
        self.taken_at = time.monotonic()
        self.begun = False
        self.over = False
        self.token = CancelToken()
        self.handler = Interruptible()
        self.claims: list[tuple[str, str]] = []
        """Under which handler's job this process alone handles the event: (service, job)."""
        self.tries = NONE
        self.counted = False  # whether something was counted since
