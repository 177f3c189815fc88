"""Waits for rows: PostgreSQL rings (LISTEN) where the connection allows it, else only time passes."""

from __future__ import annotations

import logging
import select
import threading
import time
from typing import Any, Final, Self

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fourlane.db.engine import Database

__all__ = ["CHANNEL", "Bell"]

log = logging.getLogger("fourlane.relay")

CHANNEL: Final = "fourlane_outbox"
_LISTEN_SECONDS: Final = 5.0  # who listens looks at times all the same
_SLICE_SECONDS: Final = 0.25  # how soon a stop is seen
_RECONNECT_SECONDS: Final = 5.0
_MISSES: Final = 3


class Bell:
    """A connection that listens, one of the pool's. Silent where the database cannot ring, then waits by the clock."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        self._trusted = database.listens
        self._lent: Any = None
        self._connection: Any = None
        self._silent = False
        self._missed = 0
        self._connect_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait until it rings, ``stop`` is set or the time is over: ``seconds``, or some more while it listens."""
        if self._trusted and self._connection is None and time.monotonic() >= self._connect_at and self._listen():
            return  # what was inserted before it listened did not ring: one more look, then wait
        if self._connection is None:
            stop.wait(seconds)
            return
        self._silent = not self._hear(stop, _LISTEN_SECONDS)
        if not self._silent:
            self._missed = 0

    def found_work(self) -> None:
        """Rows were there. When that is so after one silent wait after the other, nobody will ever ring."""
        if not self._silent:
            return
        self._silent = False
        self._missed += 1
        if self._missed >= _MISSES:
            log.warning(
                "rows come without a ring: a transaction pooler, or no trigger? Looking by the clock from now on"
            )
            self._trusted = False
            self._close()

    def _listen(self) -> bool:
        try:
            self._lent = self._engine.raw_connection()
            self._connection = self._lent.driver_connection
            self._connection.autocommit = True
            self._connection.cursor().execute(f"LISTEN {CHANNEL}")
        except (DBAPIError, PoolTimeout, self._engine.dialect.loaded_dbapi.Error):
            # The relay asks the database too, and tells of the trouble.
            self._close()
            self._connect_at = time.monotonic() + _RECONNECT_SECONDS
        return self._connection is not None

    def _hear(self, stop: threading.Event, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        try:
            while not stop.is_set() and time.monotonic() < deadline:
                if self._rings(_SLICE_SECONDS):
                    self._connection.poll()
                    if self._connection.notifies:
                        self._connection.notifies.clear()
                        return True
        except (self._engine.dialect.loaded_dbapi.Error, OSError):
            self._close()
            self._connect_at = time.monotonic() + _RECONNECT_SECONDS
            return True
        return False

    def _rings(self, seconds: float) -> bool:
        poll = select.poll()  # select() knows no numbers over 1023
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def _close(self) -> None:
        lent, self._lent, self._connection = self._lent, None, None
        if lent is not None:
            lent.invalidate()  # nobody else is to have one that listens
            lent.close()
