"""Ends that no run had: too many workers died with a job, or it was cancelled while it waited.

Who waits for the result is told at once. Callbacks (``on_failure``, ``on_retry_exhausted``, dramatiq's results) are
told by a job of the task `TASK`, which every worker of the service knows (tasks/ends.py): who found the end may know
no task at all, as a supervisor or the command line.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from fourlane import codec, job
from fourlane.names import Tier
from fourlane.outcome import WAITERS_MS

if TYPE_CHECKING:
    from fourlane.queues.store import Store

__all__ = ["TASK", "is_done", "tell"]

TASK: Final = "fourlane.ended"
_MOST_BYTES: Final = 16_777_216  # it may carry another job's body, whatever the limit for those was


def is_done(result: bytes | None) -> bool:
    """Whether what is kept for who waits is of a job that is done: it may tell of another end."""
    return result is not None and not result.startswith(b'{"error":')


def tell(
    store: Store,
    service: str,
    job_id: str,
    detail: str,
    *,
    body: bytes = b"",
    cancelled: bool = False,
    calls: bool = True,
) -> None:
    """Tell the end of a job.

    Parameters:
      job_id: as it is stored.
      body: the job's, when it is no longer there to be read.
      cancelled: it was cancelled; otherwise it is a dead letter.
      calls: it may have callbacks.

    Raises RedisUnavailable.
    """
    keys, tier = store.service(service), int(job_id[0])
    value = {"error": detail, "cancelled": True} if cancelled else {"error": detail}
    now = int(time.time() * 1000)
    telling = job.id_of_message(f"ended:{job.new_id(tier, now)}", Tier(tier))
    args = [job_id, detail, cancelled, *([body.decode("utf-8", "replace")] if body else [])]
    telling_entry = job.entry_of(telling, now) if calls else ""
    telling_body = codec.encode(TASK, args, max_bytes=_MOST_BYTES) if calls else b""
    names = (keys.result(job_id), keys.jobs, keys.ready[tier], keys.wake[tier])
    store.connector.run(
        "ended",
        names,
        (msgspec.json.encode(value), WAITERS_MS, tier, telling_entry, telling_body),
    )
