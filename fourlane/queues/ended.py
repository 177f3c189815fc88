"""Ends that no run had: too many workers died with a job, or it was cancelled while it waited, or while it ran and its
run ended otherwise before it heard of that.

Who waits for the result is told at once. Callbacks (``on_failure``, ``on_retry_exhausted``, dramatiq's results) are
told by a job of the task `TASK`, which every worker of the service knows (tasks/ends.py): who found the end may know
no task at all, as a supervisor or the command line. The script that writes the end makes that job too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from fourlane import codec
from fourlane.outcome import WAITERS_MS

if TYPE_CHECKING:
    from fourlane.queues.store import Store

__all__ = ["TASK", "body_around_id", "body_of_cancelled", "is_done", "tell_waiters"]

TASK: Final = "fourlane.ended"
_MOST_BYTES: Final = 16_777_216  # it may carry another job's body, whatever the limit for those was


def is_done(result: bytes | None) -> bool:
    """Whether what is kept for who waits is of a job that is done: it may tell of another end."""
    return result is not None and not result.startswith(b'{"error":')


def tell_waiters(store: Store, service: str, job_id: str, detail: str, *, cancelled: bool = False) -> None:
    """Tell who waits for the result right now. Who is not told, finds it by the job's state some seconds later.

    Parameters:
      job_id: as it is stored.
      cancelled: it was cancelled; otherwise it is a dead letter.

    Raises RedisUnavailable.
    """
    value = {"error": detail, "cancelled": True} if cancelled else {"error": detail}
    key = store.service(service).result(job_id)
    store.connector.run("ended", (key,), (msgspec.json.encode(value), WAITERS_MS))


def body_around_id(detail: str) -> tuple[bytes, bytes]:
    """The body of the job that tells that another is a dead letter: what is before and what is behind its id."""
    head, _, tail = codec.encode(TASK, ["", detail, False]).partition(b'""')
    return head, tail


def body_of_cancelled(job_id: str, detail: str, body: bytes) -> bytes:
    """The body of the job that tells that another was cancelled, which is then no longer there to be read."""
    return codec.encode(TASK, [job_id, detail, True, body.decode("utf-8", "replace")], max_bytes=_MOST_BYTES)
