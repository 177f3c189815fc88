"""What goes along inside the options of every job that this process enqueues, such as the trace that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

__all__ = ["Sending", "carried", "sending"]

Sending = Callable[[str, str, int], AbstractContextManager[Mapping[str, str]]]
"""Given the queue's name, the task and the number of jobs: is entered around the enqueue, gives the options."""

sending: Sending | None = None
"""None: nothing goes along."""

_NOTHING: AbstractContextManager[Mapping[str, str]] = nullcontext({})


def carried(queue: str, task: str, number: int = 1) -> AbstractContextManager[Mapping[str, str]]:
    """Enter it around an enqueue."""
    return _NOTHING if sending is None else sending(queue, task, number)
