"""What a running task may ask: its job, and whether it should stop."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from fourlane.errors import Cancelled, LeaseLost
from fourlane.queues import carry

if TYPE_CHECKING:
    from fourlane.queues.store import Store
    from fourlane.tasks.output import Output
    from fourlane.tasks.recorded import Steps

__all__ = ["CancelToken", "CurrentJob", "Running", "current_job", "running"]


class CancelToken:
    """Says that the job should end soon, and why: ``cancelled``, ``shutdown`` or ``lease_lost``.

    ``lease_lost``: another worker runs the job by now, and nothing that this run does counts any more.
    """

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
        """Raise Cancelled, or LeaseLost, which is one, when the job should end."""
        if self.reason == "lease_lost":
            raise LeaseLost(carry.LOST)
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
    tenant: str = ""
    """The organization on whose behalf it runs; empty for none."""
    cancel_token: CancelToken = field(default_factory=CancelToken)
    schedule: str = ""
    """The schedule that made this job."""
    scheduled_for_ms: int = 0
    """The nominal time that the job is for; ``enqueued_at_ms`` tells when it was really made."""

    @property
    def scheduled_for(self) -> datetime | None:
        """The nominal time in UTC; None when no schedule made this job."""
        if not self.scheduled_for_ms:
            return None
        return datetime.fromtimestamp(self.scheduled_for_ms / 1000, UTC)

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

    lost: bool
    """Whether its lease is known to be lost."""

    @property
    def seal(self) -> object | None:
        """Of an encrypted job."""

    @property
    def context(self) -> CurrentJob: ...
    @property
    def tenant(self) -> str: ...
    @property
    def store(self) -> Store: ...
    @property
    def steps(self) -> Steps | None:
        """None where nothing can be recorded: a handler that runs straight from SQS."""

    @property
    def output(self) -> Output | None: ...


def _output() -> Output:
    run = running.get()
    if run is None:
        raise RuntimeError("no job runs here")
    if run.output is None:
        raise RuntimeError("a handler straight from SQS has no output; use through='queue'")
    return run.output


running: ContextVar[Running | None] = carry.running


def current_job() -> CurrentJob | None:
    """The job that this thread or coroutine runs; None outside a worker."""
    now = running.get()
    return None if now is None else now.context
