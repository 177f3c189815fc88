"""Moves committed rows of the outbox to Redis, each once."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from typing import Any, Final, cast

from sqlalchemy import Connection, Table, select, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fourlane import codec
from fourlane.db.engine import Database, unavailable
from fourlane.db.models import JobOutbox, now
from fourlane.db.setup import database
from fourlane.errors import DatabaseUnavailable, RedisUnavailable
from fourlane.names import check_service
from fourlane.outbox import held
from fourlane.outbox.handover import SLOW_SECONDS, Handover
from fourlane.outbox.held import Early
from fourlane.outbox.listen import Bell
from fourlane.outbox.purge import AT_ONCE, purge
from fourlane.outbox.turns import PENDING, Place, Turns, among
from fourlane.outbox.written import COLUMNS, DAY_MS, job_of, reason, too_large
from fourlane.queues.encrypted_tasks import encrypted_tasks
from fourlane.queues.redis import is_answer, is_refusal
from fourlane.queues.relayed import Relayed
from fourlane.queues.store import Store
from fourlane.root import Root
from fourlane.watchdog import Watchdog

__all__ = ["PATIENCE_SECONDS", "Relay", "relay_of"]

log = logging.getLogger("fourlane.relay")

PATIENCE_SECONDS: Final = 120.0
"""A relay that did nothing for so long is stuck (watchdog.py): databases may take their time."""
_BATCH_BYTES: Final = 16_000_000  # of what is read at once
_FIRST_BATCH: Final = 50
_BLOCKED_SECONDS: Final = 5.0
_ASIDE_SECONDS: Final = 60.0
_PURGE_SECONDS: Final = 60.0
_RELEASE_SECONDS: Final = 60.0  # of the hour in which they are near
_SMALL_BATCH: Final = 50
_GATHER_SECONDS: Final = 0.01
_FIRST_WAIT_SECONDS: Final = 0.02
_WAIT_SHARE: Final = 0.1
_LONGEST_TROUBLE_SECONDS: Final = 5.0
_OF_A_ROW: Final = ("22", "23", "54")  # SQLSTATE: wrong data, a constraint, a limit of the server's

_rows = cast("Table", JobOutbox.__table__)
_Fault = tuple[int, str]


def relay_of(of: Root, to: Store) -> Relay:
    """A relay from this process's database to a store. Raises as `open_database` does."""
    settings = of.settings
    return Relay(
        of.part(database),
        to,
        batch=min(settings.outbox_batch, 1_000),
        keep_seconds=settings.outbox_keep_seconds,
        max_body_bytes=settings.max_body_bytes,
        days_ahead=settings.outbox_days_ahead,
        places=settings.outbox_places,
    )


class Relay:
    """One relay. Any number may work at once, in any processes.

    A step is one transaction: lock a batch of rows (1), enqueue them (2), mark them (3), commit.

    - A relay that dies after 2 leaves rows that come again. Redis remembers their ids apart from the jobs (a job may
      be done by then) until the commit is known, and does not enqueue them twice.
    - One that sleeps between 1 and 2, so long that the database takes its locks away and another relay takes the
      rows, is refused by Redis's own clock after 20 s; ids are remembered for a minute after the commit.
    - Rows with an order key are taken by one relay at a time, in the order of their positions, so that no batch
      overtakes another. Organizations get their turns (turns.py).
    - A row that is a job, but not due for long, is held back in the table (held.py).
    - A row that is no job is marked with the reason, and the others go on. Where something raises all the same, the
      batch becomes smaller, as it does when it is too slow; at last it is one row, and that is the bad one.

    Parameters:
      batch: rows in one step at most.
      keep_seconds: relayed rows are deleted after this. Failed ones are kept for 30 days.
      longest_wait_seconds: between two looks at an outbox that is empty, where nobody rings.
      max_body_bytes: rows that hold more are no jobs.
      days_ahead: nor are those that may run later than so.
      places: how many jobs of one organization run at once in a service; 0: any number.
    """

    def __init__(
        self,
        database: Database,
        store: Store,
        *,
        batch: int = 500,
        keep_seconds: int = 3_600,
        longest_wait_seconds: float = 1.0,
        max_body_bytes: int = codec.MAX_BODY_BYTES,
        days_ahead: int = 366,
        places: int = 0,
    ) -> None:
        self.database = database
        self.store = store
        self.relayed = 0
        self.failed = 0
        self._limit = batch
        self._batch = min(batch, _FIRST_BATCH)
        self._keep_seconds = keep_seconds
        self._longest_wait_seconds = longest_wait_seconds
        self._max_body_bytes = max_body_bytes
        self._ahead_ms = days_ahead * DAY_MS
        self._places = places
        self._turns = Turns(database.dialect)
        self._handover = Handover(store)
        self._taken: list[int] = []
        self._blocked: dict[str, float] = {}  # services, until when
        self._aside: dict[int, float] = {}  # rows that could not even be marked, until when
        self._purge_at = time.monotonic()
        self._release_at = time.monotonic()
        self._busy_at = time.monotonic()
        self._trouble = ""

    # Until stopped ------------------------------------------------------------------------------------------

    def run(self, stop: threading.Event, watchdog: Watchdog | None = None) -> None:
        """Relay until ``stop`` is set. Troubles are logged and waited out. ``watchdog`` is told of each round."""
        watchdog = watchdog or Watchdog()
        watchdog.kick()
        trouble_wait = 0.1
        self._busy_at = time.monotonic()
        with Bell(self.database) as bell:
            while not stop.is_set():
                try:
                    self._round(bell, stop)
                    watchdog.kick()
                    trouble_wait = 0.1
                    continue
                except (DatabaseUnavailable, RedisUnavailable) as error:
                    self._tell(str(error))
                    if isinstance(error, DatabaseUnavailable) or is_answer(error):
                        watchdog.kick()
                except Exception as error:
                    log.exception("unexpected; trying again")  # a thread that ended would be missed by nobody
                    self._tell(str(error))
                stop.wait(trouble_wait)
                trouble_wait = min(trouble_wait * 2, _LONGEST_TROUBLE_SECONDS)
        watchdog.leave()

    def _round(self, bell: Bell, stop: threading.Event) -> None:
        self._release()
        found = self.step()
        self._purge()
        if not found:
            self.settle()
        self._tell("")
        if found:
            bell.found_work()
            self._busy_at = time.monotonic()
            if found < min(_SMALL_BATCH, self._batch):
                stop.wait(_GATHER_SECONDS)  # a commit for each row would cost the database much
        else:
            silence = time.monotonic() - self._busy_at
            bell.wait(stop, idle_wait(silence, self._longest_wait_seconds))

    def drain(self) -> int:
        """Relay until nothing is left that can be relayed now; returns how many rows were handled."""
        total = 0
        self._release()
        while found := self.step():
            total += found
            self._release()
        self.settle()
        return total

    def _tell(self, trouble: str) -> None:
        """A line when a trouble begins, changes or ends, not one for each try."""
        if trouble != self._trouble:
            if trouble:
                log.warning("waiting: %s", trouble)
            else:
                log.info("relaying again")
            self._trouble = trouble

    # One batch ----------------------------------------------------------------------------------------------

    def step(self) -> int:
        """Relay one batch; returns how many rows were handled. 0: nothing waits that can be relayed now.

        Raises:
          RedisUnavailable, DatabaseUnavailable: the rows stay, and may be in Redis; that is made good by the next.
        """
        while True:
            self._taken = []
            try:
                return self._move(time.monotonic())
            except Exception as error:
                self._batch = max(1, min(self._batch, len(self._taken)) // 2)
                if not self._taken or not _is_of_a_row(error):
                    if isinstance(error, (DBAPIError, PoolTimeout)):
                        raise unavailable(error) from error
                    raise
                if len(self._taken) == 1:
                    self._give_up(self._taken[0], error)
                    return 1

    def _move(self, began: float) -> int:
        sent: dict[str, list[str]] = {}
        with self.database.engine.begin() as connection:
            places = self._take(connection)
            if not places:
                return 0
            positions, faults = within(places, self._max_body_bytes)
            self._taken = positions + [position for position, _ in faults]
            batches, early, unreadable = self._sort(self._read(connection, positions))
            faults += unreadable
            held.hold(connection, early)
            accepted: list[int] = []
            for service, jobs in batches.items():
                number = self._send(service, [relayed for _, relayed in jobs], began)
                accepted += [position for position, _ in jobs[:number]]
                sent[service] = [relayed.id for _, relayed in jobs[:number]]
            self._mark(connection, accepted, faults)
        self._handover.committed(sent)
        self.relayed += len(accepted)
        self.failed += len(faults)
        self._adapt(time.monotonic() - began)
        return len(accepted) + len(early) + len(faults) or (1 if self._blocked else 0)

    def _take(self, connection: Connection) -> list[Place]:
        now_s = time.monotonic()
        self._blocked = {service: until for service, until in self._blocked.items() if until > now_s}
        self._aside = {position: until for position, until in self._aside.items() if until > now_s}
        return self._turns.take(connection, self._batch, blocked=self._blocked, aside=self._aside)

    def _read(self, connection: Connection, positions: list[int]) -> Sequence[Any]:
        query = select(*COLUMNS).where(among(self.database.dialect, positions)).order_by(_rows.c.position)
        return connection.execute(query).all() if positions else []

    def _sort(self, rows: Sequence[Any]) -> tuple[dict[str, list[tuple[int, Relayed]]], list[Early], list[_Fault]]:
        """The jobs of each service, in their order; those that are held; and what is wrong with rows that are none."""
        batches: dict[str, list[tuple[int, Relayed]]] = defaultdict(list)
        early: list[Early] = []
        faults: list[_Fault] = []
        encrypted: dict[str, Set[str]] = {}
        now_ms = int(time.time() * 1000)
        for row in rows:
            try:
                service = check_service(row.service)
                if service in self._blocked:
                    continue
                if service not in encrypted:
                    encrypted[service] = encrypted_tasks(self.store, service)
                one = job_of(row, encrypted[service], last_ms=now_ms + self._ahead_ms, places=self._places)
                if one.due_ms is not None and (until := held.until_ms(one.due_ms, now_ms)) is not None:
                    early.append(Early(row.position, until))
                else:
                    batches[service].append((row.position, one))
            except RedisUnavailable as error:
                self._block(service, error)
            except Exception as error:
                faults.append((row.position, reason(error)))
        return batches, early, faults

    def _send(self, service: str, jobs: Sequence[Relayed], began: float) -> int:
        """Enqueue one service's jobs; returns how many. 0: just this service cannot be written to."""
        try:
            return self._handover.send(service, jobs, began)
        except RedisUnavailable as error:
            self._block(service, error)
            return 0

    def _block(self, service: str, error: RedisUnavailable) -> None:
        """Leave a service alone for a while, when just this one is refused. Else raises the error."""
        if not is_refusal(error):
            raise error
        log.error("refused service=%s: %s", service, error)
        self._blocked[service] = time.monotonic() + _BLOCKED_SECONDS

    def _mark(self, connection: Connection, accepted: list[int], faults: list[_Fault]) -> None:
        if accepted:
            connection.execute(update(_rows).where(among(self.database.dialect, accepted)).values(relayed_at=now()))
        for position, fault in faults:
            log.error("failed position=%d: %s", position, fault)
            row = update(_rows).where(_rows.c.position == position, *PENDING)
            connection.execute(row.values(failed_at=now(), error=fault))

    def _give_up(self, position: int, error: Exception) -> None:
        """Mark the one row that raised; leave it alone for a while where not even that can be done."""
        try:
            with self.database.engine.begin() as connection:
                self._mark(connection, [], [(position, reason(error))])
            self.failed += 1
        except (DBAPIError, PoolTimeout) as again:
            if not _is_of_a_row(again):
                raise unavailable(again) from again
            log.error("left position=%d for %g s, which cannot be marked: %s", position, _ASIDE_SECONDS, reason(again))
            self._aside[position] = time.monotonic() + _ASIDE_SECONDS

    def _adapt(self, seconds: float) -> None:
        """Smaller batches while they are slow, so that rows are not locked for long and each batch arrives."""
        if seconds > SLOW_SECONDS:
            self._batch = max(1, self._batch // 2)
        elif seconds * 4 < SLOW_SECONDS:
            self._batch = min(self._limit, self._batch * 2)

    # Beside batches -----------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Tell Redis which commits are known, so that it forgets their ids in a minute."""
        self._handover.settle()

    def _release(self) -> None:
        if time.monotonic() < self._release_at:
            return
        with self._transaction() as connection:
            released = held.release(connection)
        self._release_at = time.monotonic() + (0.0 if released == held.AT_ONCE else _RELEASE_SECONDS)

    def _purge(self) -> None:
        if time.monotonic() < self._purge_at:
            return
        with self._transaction() as connection:
            gone = purge(connection, self._keep_seconds)
        self._purge_at = time.monotonic() + (1.0 if gone == AT_ONCE else _PURGE_SECONDS)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self.database.engine.begin() as connection:
                yield connection
        except (DBAPIError, PoolTimeout) as error:
            raise unavailable(error) from error


def idle_wait(silence_seconds: float, longest_seconds: float) -> float:
    """How long to wait before the next look: the longer, the longer nothing was there."""
    return min(max(_FIRST_WAIT_SECONDS, silence_seconds * _WAIT_SHARE), longest_seconds)


def within(
    places: Sequence[Place], max_row_bytes: int, most_bytes: int = _BATCH_BYTES
) -> tuple[list[int], list[_Fault]]:
    """The rows, from the first on, that are read at once; and what is wrong with those among them that never are."""
    positions: list[int] = []
    faults: list[_Fault] = []
    total = 0
    for position, size in places:
        if size > max_row_bytes:
            faults.append((position, too_large(size, max_row_bytes)))
            continue
        total += size
        if positions and total > most_bytes:
            break
        positions.append(position)
    return positions, faults


def _is_of_a_row(error: Exception) -> bool:
    """Whether a row raised it, and not the database or Redis for a reason of its own."""
    if not isinstance(error, DBAPIError):
        return not isinstance(error, (RedisUnavailable, DatabaseUnavailable, SQLAlchemyError))
    original = error.orig
    if isinstance(original, sqlite3.Error):  # without a code, the driver could not make a value of it
        code = getattr(original, "sqlite_errorcode", None)
        return code is None or code & 0xFF in (
            sqlite3.SQLITE_CONSTRAINT,
            sqlite3.SQLITE_MISMATCH,
            sqlite3.SQLITE_TOOBIG,
        )
    code = getattr(original, "pgcode", None)
    return code[:2] in _OF_A_ROW if code else type(original).__name__ == "DataError"
