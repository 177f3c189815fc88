"""Lines of jobs (queues/lines.py): closed for a time, narrowed, widened again."""

from __future__ import annotations

from typing import Any

from fourlane.queues.store import Store

__all__ = ["Lines"]


class Lines:
    """By service and name. All raise RedisUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def close(self, service: str, line: str, for_ms: int) -> None:
        """None of its jobs begins for so long, or longer if it is closed already. Those that run go on. 0: it opens."""
        self._set(service, line, for_ms, "")

    def narrow(self, service: str, line: str, places: int) -> None:
        """It has at most so many places, until it is widened, or nobody runs or waits in it any more."""
        self._set(service, line, "", places)

    def widen(self, service: str, line: str) -> None:
        """It has its own number of places again."""
        self._set(service, line, "", 0)

    def _set(self, service: str, line: str, for_ms: Any, places: Any) -> None:
        self._store.connector.run("line", self._store.service(service).all, (line, for_ms, places))
