"""Which of some jobs are over, for those who keep something on a job's behalf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fourlane.queues.store import Store

__all__ = ["over"]

_CHUNK: Final = 500


def over(store: Store, service: str, job_ids: Sequence[str]) -> set[str]:
    """Those that are done, dead, cancelled, or unknown to Redis (lua/over.lua). Raises RedisUnavailable."""
    found: set[str] = set()
    for first in range(0, len(job_ids), _CHUNK):
        some = job_ids[first : first + _CHUNK]
        words = store.connector.run("over", store.service(service).all, some)
        found |= {job_id for job_id, is_over in zip(some, words, strict=True) if is_over}
    return found
