"""Ends that no run had: too many workers died with a job, or it was cancelled while it waited, or while it ran and its
run ended otherwise before it heard of that.

Who waits for the result is told at once. Callbacks (``on_failure``, ``on_retry_exhausted``, dramatiq's results) are
told by a job of the task `TASK`, which every worker of the service knows (tasks/ended.py): who found the end may know
no task at all, as a supervisor or the command line. The script that writes the end makes that job too.
"""

from __future__ import annotations

from typing import Final

import msgspec

from fourlane import codec

__all__ = ["TASK", "body_around_id", "body_of_cancelled", "for_waiters", "is_done"]

TASK: Final = "fourlane.ended"
_MOST_BYTES: Final = 16_777_216  # it may carry another job's body, whatever the limit for those was


def is_done(result: bytes | None) -> bool:
    """Whether what is kept for who waits is of a job that is done: it may tell of another end."""
    return result is not None and not result.startswith(b'{"error":')


def for_waiters(detail: str, *, cancelled: bool = False) -> bytes:
    """What who waits for a result is told of a job that was cancelled, or is a dead letter."""
    return msgspec.json.encode({"error": detail, "cancelled": True} if cancelled else {"error": detail})


def body_around_id(detail: str) -> tuple[bytes, bytes]:
    """The body of the job that tells that another is a dead letter: what is before and what is behind its id."""
    head, _, tail = codec.encode(TASK, ["", detail, False]).partition(b'""')
    return head, tail


def body_of_cancelled(job_id: str, detail: str, body: bytes) -> bytes:
    """The body of the job that tells that another was cancelled, which is then no longer there to be read."""
    return codec.encode(TASK, [job_id, detail, True, body.decode("utf-8", "replace")], max_bytes=_MOST_BYTES)
