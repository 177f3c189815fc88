"""What jobs returned, or how else they ended: kept for who waits for it, as a list of one element."""

from __future__ import annotations

import time
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.outcome import WAITERS_MS
from fourlane.queues.redis import blocks_for, is_full
from fourlane.queues.store import Store

__all__ = ["Results"]

_POLL_SECONDS: Final = 0.1


class Results:
    """The results of one environment's jobs. Ids of jobs are as they are stored."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def wait(self, service: str, job_id: str, seconds: float) -> bytes | None:
        """A job's result; None when there was none in this time. At most some seconds: a socket has a timeout."""
        if seconds <= 0:
            return self.look(service, job_id)
        key = self._store.service(service).result(job_id)
        try:
            # Moving the only element of a list onto the same list leaves it for others who wait.
            data = self._store.connector.command(key, "BLMOVE", key, key, "LEFT", "LEFT", blocks_for(seconds))
        except RedisUnavailable as error:
            if not is_full(error):
                raise
            time.sleep(min(seconds, _POLL_SECONDS))
            return self.look(service, job_id)
        return data if isinstance(data, bytes) else None

    def look(self, service: str, job_id: str) -> bytes | None:
        """A job's result, if it is there now."""
        key = self._store.service(service).result(job_id)
        data = self._store.connector.command(key, "LINDEX", key, 0)
        return data if isinstance(data, bytes) else None

    def tell_end(self, service: str, job_id: str, value: bytes) -> None:
        """Tell who waits right now of an end without a result (ended.py: for_waiters). Who is not told, finds it by
        the job's state some seconds later.

        Raises RedisUnavailable.
        """
        key = self._store.service(service).result(job_id)
        self._store.connector.run("tell_end", (key,), (value, WAITERS_MS))
