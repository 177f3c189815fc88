"""The message that a thread processes, and how a middleware retries it: by enqueuing it again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["in_process", "taken_as_retry", "taking_retry"]


class _InProcess(threading.local):
    message: Any = None


in_process = _InProcess()
"""The message that this thread processes."""


@contextmanager
def taking_retry(running: Any) -> Iterator[None]:
    """Meanwhile a middleware that enqueues the failed message that runs here retries it."""
    running.takes_retry = True
    try:
        yield
    finally:
        running.takes_retry = False


def taken_as_retry(message: Any, delay_ms: int | None) -> bool:
    """Whether a middleware (Retries) so puts back the failed job that runs here: its settling does it, in one step."""
    running = in_process.message
    if running is None or not getattr(running, "takes_retry", False) or not _is_same(running, message):
        return False
    running.takes_retry, running.enqueued_again = False, (message, delay_ms)
    return True


def _is_same(running: Any, message: Any) -> bool:
    """A retry changes options only; with other arguments, or on another queue, it is another job."""
    return all(
        getattr(running, part) == getattr(message, part)
        for part in ("message_id", "actor_name", "queue_name", "args", "kwargs")
    )
