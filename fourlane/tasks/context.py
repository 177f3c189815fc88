"""What a running task may ask: its job, and whether it should stop."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fourlane.errors import Cancelled

if TYPE_CHECKING:
    from fourlane.tasks.output import Output
    from fourlane.tasks.steps import Steps

__all__ = ["CancelToken", "CurrentJob", "current_job"]


class CancelToken:
    """Says that the job should end soon, and why: ``cancelled`` or ``shutdown``."""

    __slots__ = ("_event", "reason")

    def __init__(self) -> None:
        self.reason = ""
        self._event: threading.Event | None = None

    def __bool__(self) -> bool:
        return bool(self.reason)

    def set(self, reason: str) -> None:
        self.reason = reason
        if self._event is not None:
            self._event.set()

    def wait(self, timeout_seconds: float) -> bool:
        """Sleep, but not past the moment when the job should end. True when it should."""
        if self._event is None:
            self._event = threading.Event()
            if self.reason:
                return True
        return self._event.wait(timeout_seconds)

    def raise_if_set(self) -> None:
        """Raise Cancelled when the job should end."""
        if self.reason:
            raise Cancelled(self.reason)


@dataclass(slots=True)
class CurrentJob:
    """The job that runs here."""

    id: str
    task: str
    queue: str
    attempt: int
    enqueued_at_ms: int
    cancel_token: CancelToken = field(default_factory=CancelToken)

    # Kept for an hour, for whoever looks (EnqueuedJob.stream, progress, log_lines). None of them waits for Redis.

    def progress(self, done: float, text: str = "") -> None:
        """Tell how far it is.

        Parameters:
          done: from 0 to 1.
        """
        _output().progress(done, text)

    def log(self, line: str) -> None:
        """Add a log line; the last 200 are kept, of each 1,000 characters."""
        _output().log(line)

    def write(self, text: str) -> None:
        """Add to the output, which readers see as it grows; up to 1 MiB."""
        _output().write(text)


class Running(Protocol):
    """What a worker sets while a job runs."""

    @property
    def context(self) -> CurrentJob: ...
    @property
    def plan(self) -> Any: ...
    @property
    def steps(self) -> Steps: ...
    @property
    def output(self) -> Output: ...


def _output() -> Output:
    run = running.get()
    if run is None:
        raise RuntimeError("no job runs here")
    return run.output


running: ContextVar[Running | None] = ContextVar("fourlane_running", default=None)


def current_job() -> CurrentJob | None:
    """The job that this thread or coroutine runs; None outside a worker."""
    now = running.get()
    return None if now is None else now.context
