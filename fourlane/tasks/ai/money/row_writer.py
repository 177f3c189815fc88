"""Writes rows beside the jobs: none waits long for a database that is locked or away."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from typing import TYPE_CHECKING, Any, Final

from fourlane.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from fourlane.db.engine import Database

__all__ = ["RowWriter", "writer_of"]

log = logging.getLogger("fourlane.ai")

_WAIT_SECONDS: Final = 1.5
_HELD_SECONDS: Final = 10.0
_THREADS: Final = 4


class RowWriter:
    """Writes the rows of one database. After a row that it did not take, one row in ten seconds tries it again."""

    def __init__(self, database: Database) -> None:
        self._database = weakref.ref(database)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="fourlane-ai-rows")
        self._lock = threading.Lock()
        self._held_until = 0.0

    def write(self, columns: Mapping[str, Any]) -> bool:
        """Write a row; whether the database is back by it. One that comes too late is written all the same, or not.

        Raises DatabaseUnavailable, at once where it did not take one a moment ago.
        """
        was_away = self._begin()
        writing = self._threads.submit(self._write, columns)
        try:
            writing.result(_WAIT_SECONDS)
        except TooLate:
            self._hold()
            raise DatabaseUnavailable(f"database: it did not take a row within {_WAIT_SECONDS} s") from None
        except DatabaseUnavailable:
            self._hold()
            raise
        self._held_until = 0.0
        return was_away

    def aside(self, work: Callable[[], object]) -> None:
        """Do something for which nobody waits."""
        self._threads.submit(work).add_done_callback(_told)

    def _write(self, columns: Mapping[str, Any]) -> None:
        from fourlane.db.ai_rows import write

        database = self._database()
        if database is not None:
            write(database, columns)

    def _begin(self) -> bool:
        with self._lock:
            was_away, now = self._held_until > 0, time.monotonic()
            if now < self._held_until:
                raise DatabaseUnavailable("database: it did not take a row a moment ago")
            if was_away:  # others do not try it meanwhile
                self._held_until = now + _HELD_SECONDS
        return was_away

    def _hold(self) -> None:
        self._held_until = time.monotonic() + _HELD_SECONDS


_writers: weakref.WeakKeyDictionary[Database, RowWriter] = weakref.WeakKeyDictionary()
_making: Final = threading.Lock()


def writer_of(database: Database) -> RowWriter:
    """The one of a database in this process."""
    with _making:
        if database not in _writers:
            _writers[database] = RowWriter(database)
        return _writers[database]


def _told(done: Future[object]) -> None:
    if (fault := done.exception()) is not None:
        log.error("rows of AI calls are still not written: %s", fault)
