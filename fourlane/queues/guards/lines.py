"""Lines of jobs (queues/lines.py): closed for a time, narrowed, widened again."""

from __future__ import annotations

from typing import Any, Final

from fourlane.errors import InvalidOption
from fourlane.names import check_service
from fourlane.queues.lines import check_line
from fourlane.queues.store import Store

__all__ = ["Lines"]


_LONGEST_MS: Final = 366 * 86_400_000


class Lines:
    """By service and name.

    All raise InvalidOption for what is no name or number, and RedisUnavailable.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def close(self, service: str, line: str, for_ms: int) -> None:
        """None of its jobs begins for so long, up to a year, or longer if it is closed already; those that run go on.

        0 opens it.
        """
        if type(for_ms) is not int or not 0 <= for_ms <= _LONGEST_MS:
            raise InvalidOption(f"line {line}: it can be closed for 0 to {_LONGEST_MS:,} ms, not {for_ms!r}")
        self._set(service, line, for_ms, "")

    def narrow(self, service: str, line: str, places: int) -> None:
        """It has at most so many places, until it is widened, or nobody runs or waits in it any more."""
        check_line(line, places)
        self._set(service, line, "", places)

    def widen(self, service: str, line: str) -> None:
        """It has its own number of places again."""
        self._set(service, line, "", 0)

    def _set(self, service: str, line: str, for_ms: Any, places: Any) -> None:
        check_line(line)
        self._store.connector.run("line", self._store.service(check_service(service)).all, (line, for_ms, places))
