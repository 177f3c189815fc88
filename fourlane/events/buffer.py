"""Where a publisher keeps events while SQS cannot be reached: a bounded file that outlives the process."""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from fourlane import private
from fourlane.errors import BufferFull

__all__ = ["Buffer", "Buffered"]

_MAX_BYTES: Final = 256 * 1_048_576
_BUSY_SECONDS: Final = 10.0
_MOST_REFUSED: Final = 1_000
_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS events"
    " (seq INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, entry TEXT NOT NULL, bytes INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS refused"
    " (seq INTEGER PRIMARY KEY, queue TEXT NOT NULL, entry TEXT NOT NULL, why TEXT NOT NULL)",
)


class Buffered(NamedTuple):
    """One event that waits: the SQS name of its queue, and the entry as SQS takes it."""

    seq: int
    queue: str
    entry: dict[str, Any]


class Buffer:
    """Shared by all processes that use one data folder.

    Parameters:
      most: events it holds at most.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.path = folder / "events.sqlite"
        self.most = most
        private.folder(folder)
        private.file(self.path)  # before the first connection makes its journal, whose rights are the same
        private.tighten(self.path)
        with self._open() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            for statement in _SCHEMA:
                connection.execute(statement)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # A connection for each use: it is rare, and a connection must not be carried over a fork.
        with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            yield connection

    def put(self, queue: str, entries: Sequence[dict[str, Any]]) -> None:
        """Keep events, all or none. Raises BufferFull."""
        rows = [(queue, json.dumps(entry), len(entry["MessageBody"])) for entry in entries]
        try:
            with self._open() as connection:
                connection.execute("BEGIN IMMEDIATE")
                count, size = connection.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM events").fetchone()
                if count + len(rows) > self.most or size + sum(row[2] for row in rows) > _MAX_BYTES:
                    connection.execute("ROLLBACK")
                    raise BufferFull(
                        f"SQS takes no events, and the local buffer {self.path} is full ({count:,} events, "
                        f"{size:,} bytes); this event was not accepted: publish it again later",
                        passing=True,
                    )
                connection.executemany("INSERT INTO events (queue, entry, bytes) VALUES (?, ?, ?)", rows)
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise BufferFull(
                f"SQS takes no events, and the local buffer {self.path} cannot be written ({error}); this event was "
                "not accepted",
                passing=True,
            ) from error

    def queues(self) -> list[str]:
        """The queues that have events here."""
        with self._open() as connection:
            return [row[0] for row in connection.execute("SELECT DISTINCT queue FROM events ORDER BY queue")]

    def count(self, queue: str = "") -> int:
        """Events that wait, of one queue or of all."""
        with self._open() as connection:
            found = connection.execute("SELECT count(*) FROM events WHERE ? IN ('', queue)", (queue,)).fetchone()
        return int(found[0])

    def first(self, queue: str, number: int) -> list[Buffered]:
        """The oldest of a queue."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT seq, queue, entry FROM events WHERE queue = ? ORDER BY seq LIMIT ?", (queue, number)
            ).fetchall()
        return [Buffered(seq, name, json.loads(entry)) for seq, name, entry in rows]

    def remove(self, events: Sequence[Buffered]) -> None:
        """They are sent."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("DELETE FROM events WHERE seq = ?", [(event.seq,) for event in events])
            connection.execute("COMMIT")

    def set_aside(self, event: Buffered, why: str) -> None:
        """SQS never takes it: out of the way of the others, and kept with the reason. Of very many the last ones."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM events WHERE seq = ?", (event.seq,))
            kept = (event.seq, event.queue, json.dumps(event.entry), why)
            connection.execute("INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)", kept)
            connection.execute(
                "DELETE FROM refused WHERE seq NOT IN (SELECT seq FROM refused ORDER BY seq DESC LIMIT ?)",
                (_MOST_REFUSED,),
            )
            connection.execute("COMMIT")

    def refused(self) -> list[tuple[Buffered, str]]:
        """Those that SQS never takes, each with the reason."""
        with self._open() as connection:
            rows = connection.execute("SELECT seq, queue, entry, why FROM refused ORDER BY seq").fetchall()
        return [(Buffered(seq, queue, json.loads(entry)), why) for seq, queue, entry, why in rows]

    @contextmanager
    def sending(self) -> Iterator[bool]:
        """True for the one process that sends what is buffered: their order is kept, and none is sent twice."""
        with self.path.with_suffix(".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True
