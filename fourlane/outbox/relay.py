"""Moves committed rows of the outbox to Redis, each once."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import msgspec
from sqlalchemy import Connection, CursorResult, Table, delete, or_, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fourlane import codec, job
from fourlane.db.engine import Database, unavailable
from fourlane.db.models import JobOutbox, now
from fourlane.db.setup import database
from fourlane.errors import DatabaseUnavailable, FourlaneError, RedisUnavailable
from fourlane.later import later_tasks
from fourlane.names import Tier, check_service
from fourlane.outbox.listen import Bell
from fourlane.outbox.written import COLUMNS, check_size, id_of, moment_ms, options_of
from fourlane.queues import make, relayed
from fourlane.queues.encrypted_tasks import encrypted_tasks
from fourlane.queues.lines import read_lines, texts_of
from fourlane.queues.redis import is_answer, is_refusal
from fourlane.queues.redis.clock import time_ms
from fourlane.queues.relayed import Relayed
from fourlane.queues.store import Store
from fourlane.root import Root
from fourlane.watchdog import Watchdog

__all__ = ["PATIENCE_SECONDS", "Relay", "relay_of"]

log = logging.getLogger("fourlane.relay")

PATIENCE_SECONDS: Final = 120.0
"""A relay that did nothing for so long is stuck (watchdog.py): databases may take their time."""
_ORDERED_LOCK: Final = 0x6F7264657265640A
_BATCH_BYTES: Final = 4_000_000  # hosted servers refuse requests over 10 MB
_LARGE_BATCH_BYTES: Final = 16_000_000
_FIRST_BATCH: Final = 50
_ACCEPT_MS: Final = 20_000  # a batch that took longer is given up; another relay may have its rows by now
_REMEMBER_MS: Final = 7 * 86_400_000  # as long as a database may be away after a relay died
_REMEMBER_CONFIRMED_MS: Final = 60_000  # well over _ACCEPT_MS, see Relay
_BLOCKED_SECONDS: Final = 5.0
_KEEP_FAILED_DAYS: Final = 30
_PURGE_ROWS: Final = 10_000
_PURGE_SECONDS: Final = 60.0
_SMALL_BATCH: Final = 50
_GATHER_SECONDS: Final = 0.01
_FIRST_WAIT_SECONDS: Final = 0.02
_WAIT_SHARE: Final = 0.1
_LONGEST_TROUBLE_SECONDS: Final = 5.0

_rows = cast("Table", JobOutbox.__table__)
_pending = [_rows.c.relayed_at.is_(None), _rows.c.failed_at.is_(None)]


def relay_of(of: Root, to: Store) -> Relay:
    """A relay from this process's database to a store. Raises as `open_database` does."""
    batch = min(of.settings.outbox_batch, 1_000)
    return Relay(
        of.part(database),
        to,
        batch=batch,
        keep_seconds=of.settings.outbox_keep_seconds,
        max_body_bytes=of.settings.max_body_bytes,
    )


class Relay:
    """One relay. Any number may work at once, in any processes.

    A step is one transaction: lock a batch of rows (1), enqueue them (2), mark them (3), commit.

    - A relay that dies after 2 leaves rows that come again. Redis remembers their ids apart from the jobs (a job may
      be done by then) until the commit is known, and does not enqueue them twice.
    - One that sleeps between 1 and 2, so long that the database takes its locks away and another relay takes the
      rows, is refused by Redis's own clock after 20 s; ids are remembered for a minute after the commit.
    - Rows with an order key are taken by one relay at a time, in the order of their positions, so that no batch
      overtakes another.

    Parameters:
      batch: rows in one step at most.
      keep_seconds: relayed rows are deleted after this. Failed ones are kept for 30 days.
      longest_wait_seconds: between two looks at an outbox that is empty, where nobody rings.
      max_body_bytes: rows that hold more are no jobs.
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
        self._clocks: dict[str, float] = {}  # by service: ms that its Redis is ahead of our monotonic clock
        self._confirmed: dict[str, list[str]] = defaultdict(list)
        self._blocked: dict[str, float] = {}
        self._purge_at = time.monotonic()
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
        found = self.step()
        self._purge()
        if not found:
            self.settle()
        self._tell("")
        if found:
            bell.found_work()
            self._busy_at = time.monotonic()
            if found < _SMALL_BATCH:
                stop.wait(_GATHER_SECONDS)  # a commit for each row would cost the database much
        else:
            silence = time.monotonic() - self._busy_at
            bell.wait(stop, idle_wait(silence, self._longest_wait_seconds))

    def drain(self) -> int:
        """Relay until nothing is left that can be relayed now; returns how many rows were handled."""
        total = 0
        while found := self.step():
            total += found
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
        began = time.monotonic()
        sent: dict[str, list[str]] = {}
        try:
            with self.database.engine.begin() as connection:
                rows = self._take(connection)
                if not rows:
                    return 0
                batches, faults = self._sort(rows)
                accepted: list[int] = []
                for service, jobs in batches.items():
                    if self._send(service, [relayed for _, relayed in jobs], began):
                        accepted += [position for position, _ in jobs]
                        sent[service] = [relayed.id for _, relayed in jobs]
                self._mark(connection, accepted, faults)
        except (DBAPIError, PoolTimeout) as error:
            raise unavailable(error) from error
        for service, ids in sent.items():
            self._confirmed[service] += ids
        self.relayed += len(accepted)
        self.failed += len(faults)
        self._adapt(rows)
        return len(accepted) + len(faults) or (1 if self._blocked else 0)

    def _take(self, connection: Connection) -> Sequence[Any]:
        now_s = time.monotonic()
        self._blocked = {service: until for service, until in self._blocked.items() if until > now_s}
        query = select(*COLUMNS).where(*_pending).order_by(_rows.c.position).limit(self._batch)
        if self._blocked:
            query = query.where(_rows.c.service.not_in(list(self._blocked)))
        if self.database.dialect == "postgresql":
            # Uncorrelated, so that it is asked once, and only when a row has a key.
            mine = text(f"(SELECT pg_try_advisory_xact_lock({_ORDERED_LOCK}))")
            query = query.where(or_(_rows.c.order_key.is_(None), mine)).with_for_update(skip_locked=True)
        return connection.execute(query).all()

    def _sort(self, rows: Sequence[Any]) -> tuple[dict[str, list[tuple[int, Relayed]]], list[tuple[int, str]]]:
        """The jobs of each service, in their order, and what is wrong with rows that are none."""
        batches: dict[str, list[tuple[int, Relayed]]] = defaultdict(list)
        faults: list[tuple[int, str]] = []
        encrypted: dict[str, Set[str]] = {}
        for row in rows:
            try:
                service = check_service(row.service)
                if service in self._blocked:
                    continue
                if service not in encrypted:
                    encrypted[service] = encrypted_tasks(self.store, service)
                check_size(row, self._max_body_bytes)
                batches[service].append((row.position, _job_of(row, encrypted[service])))
            except RedisUnavailable as error:
                self._block(service, error)
            except (FourlaneError, ValueError, msgspec.DecodeError) as error:
                faults.append((row.position, str(error)))
        return batches, faults

    def _send(self, service: str, jobs: Sequence[Relayed], began: float) -> bool:
        """Enqueue one service's jobs; false when just this service cannot be written to."""
        try:
            for chunk in _chunks(jobs):
                confirmed, self._confirmed[service] = self._confirmed[service][:1000], self._confirmed[service][1000:]
                try:
                    at_redis, new = relayed.relay(
                        self.store,
                        service,
                        chunk,
                        not_after_ms=int(self._clock(service) + began * 1000) + _ACCEPT_MS,
                        remember_ms=_REMEMBER_MS,
                        confirmed=confirmed,
                        remember_confirmed_ms=_REMEMBER_CONFIRMED_MS,
                    )
                except RedisUnavailable:
                    self._clocks.pop(service, None)  # another server may answer next time
                    self._confirmed[service] += confirmed
                    raise
                self._clocks[service] = at_redis - time.monotonic() * 1000
                if new is None:
                    raise RedisUnavailable(f"a batch of the outbox took over {_ACCEPT_MS / 1000:g} s; trying it again")
        except RedisUnavailable as error:
            self._block(service, error)
            return False
        return True

    def _block(self, service: str, error: RedisUnavailable) -> None:
        """Leave a service alone for a while, when just this one is refused. Else raises the error."""
        if not is_refusal(error):
            raise error
        log.error("refused service=%s: %s", service, error)
        self._blocked[service] = time.monotonic() + _BLOCKED_SECONDS

    def _clock(self, service: str) -> float:
        """What to add to our monotonic clock (ms) to know the time at Redis, at most."""
        if service not in self._clocks:
            key = self.store.service(service).relayed
            self._clocks[service] = time_ms(self.store.connector, key) - time.monotonic() * 1000
        return self._clocks[service]

    def _mark(self, connection: Connection, accepted: list[int], faults: list[tuple[int, str]]) -> None:
        if accepted:
            connection.execute(update(_rows).where(_rows.c.position.in_(accepted)).values(relayed_at=now()))
        for position, fault in faults:
            log.error("failed position=%d: %s", position, fault)
            row = update(_rows).where(_rows.c.position == position)
            connection.execute(row.values(failed_at=now(), error=fault))

    def _adapt(self, rows: Sequence[Any]) -> None:
        """Smaller batches while jobs are large, so that no batch fills the memory."""
        size = sum(len(row.args) + len(row.kwargs) for row in rows)
        if size > _LARGE_BATCH_BYTES:
            self._batch = max(1, self._batch // 2)
        elif size * 4 < _LARGE_BATCH_BYTES:
            self._batch = min(self._limit, self._batch * 2)

    # Beside batches -----------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Tell Redis which commits are known, so that it forgets their ids in a minute."""
        for service in list(self._confirmed):
            while ids := self._confirmed[service][:1000]:
                relayed.relay(
                    self.store,
                    service,
                    (),
                    not_after_ms=0,
                    remember_ms=_REMEMBER_MS,
                    confirmed=ids,
                    remember_confirmed_ms=_REMEMBER_CONFIRMED_MS,
                )
                del self._confirmed[service][:1000]
            del self._confirmed[service]

    def _purge(self) -> None:
        if time.monotonic() < self._purge_at:
            return
        try:
            with self.database.engine.begin() as connection:
                gone = _purge(connection, self._keep_seconds)
        except (DBAPIError, PoolTimeout) as error:
            raise unavailable(error) from error
        self._purge_at = time.monotonic() + (1.0 if gone == _PURGE_ROWS else _PURGE_SECONDS)


def idle_wait(silence_seconds: float, longest_seconds: float) -> float:
    """How long to wait before the next look: the longer, the longer nothing was there."""
    return min(max(_FIRST_WAIT_SECONDS, silence_seconds * _WAIT_SHARE), longest_seconds)


def _purge(connection: Connection, keep_seconds: int) -> int:
    """Delete some rows that need not be kept any longer; returns how many."""
    moment = datetime.now(UTC)
    old = (
        select(_rows.c.position)
        .where(
            or_(
                _rows.c.relayed_at < moment - timedelta(seconds=keep_seconds),
                _rows.c.failed_at < moment - timedelta(days=_KEEP_FAILED_DAYS),
            )
        )
        .limit(_PURGE_ROWS)
        .with_for_update(skip_locked=True)
    )
    gone: CursorResult[Any] = connection.execute(delete(_rows).where(_rows.c.position.in_(old)))
    return gone.rowcount


def _job_of(row: Any, encrypted: Set[str]) -> Relayed:
    """Raises FourlaneError, ValueError, msgspec.DecodeError: it is no job, or cannot be encrypted."""
    tier = Tier.parse(row.tier)
    created_ms = moment_ms(row.created_at)
    job_id = job.id_of_message(id_of(row), tier)
    options = options_of(row)
    lines = texts_of(read_lines(options.pop(codec.LINES, [])))
    body = make.body_of_parts(
        row.task,
        row.args.encode(),
        row.kwargs.encode(),
        options,
        job_id=job_id,
        sealed=codec.SEALED not in options and not encrypted.isdisjoint((row.task, *later_tasks(options))),
        enqueued_ms=created_ms,
        lines=lines,
    )
    codec.decode(body)  # what another program wrote may be no job
    due_ms = None if row.run_at is None else moment_ms(row.run_at)
    return Relayed(job_id, job.entry_of(job_id, created_ms), due_ms, body)


def _chunks(jobs: Sequence[Relayed]) -> Iterator[Sequence[Relayed]]:
    first = size = 0
    for number, one in enumerate(jobs):
        size += len(one.body)
        if size > _BATCH_BYTES and number > first:
            yield jobs[first:number]
            first, size = number, len(one.body)
    yield jobs[first:]
