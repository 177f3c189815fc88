"""Jobs of tasks that this process does not know: another version of the code may."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from typing import Final

from fourlane.queues.store import Store

__all__ = ["DEAD_AFTER_MS", "Parked", "pause_ms", "promote"]

log = logging.getLogger("fourlane.worker")

DEAD_AFTER_MS: Final = 24 * 3_600_000
_TRIES: Final = 4
_SHORTEST_MS: Final = 500
_LONGEST_MS: Final = 30_000
_LINE_SECONDS: Final = 60.0


def pause_ms(unknown_ms: int, tries: int) -> int:
    """Until such a job is tried again.

    Some workers try one after the other at once, whoever waits longest. Then it rests: shortly at first, for in a
    deploy a worker that knows it is near.
    """
    return 0 if tries % _TRIES else max(_SHORTEST_MS, min(_LONGEST_MS, unknown_ms // 2))


class Parked:
    """Tells of parked jobs: one line a minute for each task, however many there are."""

    def __init__(self, seconds: float = _LINE_SECONDS) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._lines: dict[str, tuple[float, int]] = {}  # by task: when the last line was, how many came since

    def tell(self, job_id: str, task: str, again_in_ms: int) -> None:
        now = time.monotonic()
        with self._lock:
            told_at, since = self._lines.get(task, (-self._seconds, 0))
            is_time = now - told_at >= self._seconds
            self._lines[task] = (now, 0) if is_time else (told_at, since + 1)
        if is_time:
            log.warning("unknown-task task=%s jobs=%d job=%s again_in_ms=%d", task, since + 1, job_id, again_in_ms)


def promote(store: Store, service: str, tasks: Collection[str]) -> int:
    """Make jobs of these tasks due at once that workers parked who did not know them. Returns how many."""
    unknown = store.connector.command(key := store.service(service).unknown, "ZRANGE", key, 0, -1)
    names = [name for name in (text.decode(errors="replace") for text in unknown) if name in tasks]
    due = passed = 0
    until = b"0" if names else b""
    while until:
        some, passed, until = store.connector.run("promote", store.service(service).all, (until, passed, *names))
        due += some
    return due
