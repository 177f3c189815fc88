"""Writes what running jobs want kept: recorded steps, output, log lines, progress.

One thread for each store, started when the first job asks. What hundreds of jobs want at once goes to Redis
together: one script call for each service, whatever their number.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple

from fourlane.job import id_of_entry
from fourlane.queues.store import Store

__all__ = ["OUTPUT_TTL_MS", "Journal", "Lease", "journal_of"]

OUTPUT_TTL_MS: Final = 3_600_000
_MOST_PIECES: Final = 2_000
_MOST_LINES: Final = 200
_BATCH: Final = 200
_GATHER_SECONDS: Final = 0.05


class Lease(NamedTuple):
    """What a run holds of its job: under this its writes are fenced."""

    service: str
    name: str
    entry: str

    @property
    def job_id(self) -> str:
        return id_of_entry(self.entry)


class _Item(NamedTuple):
    lease: Lease
    kind: str  # "load", "save", or one of output.lua
    run: str
    data: bytes
    future: Future[bytes | bool | None]


class Journal:
    """Threads may share one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Condition()
        self._urgent: list[_Item] = []
        self._output: list[_Item] = []
        self._flush_now = False
        self._thread: threading.Thread | None = None

    def load(self, lease: Lease) -> Future[bytes | bool | None]:
        """The recorded steps of a job: bytes, or None."""
        return self._put(_Item(lease, "load", "", b"", Future()), urgent=True)

    def save(self, lease: Lease, data: bytes) -> Future[bytes | bool | None]:
        """Record steps: True, or False when the lease is lost."""
        return self._put(_Item(lease, "save", "", data, Future()), urgent=True)

    def say(self, lease: Lease, kind: str, run: str, text: str, *, now: bool = False) -> Future[bytes | bool | None]:
        """Keep output. It is gathered for some milliseconds, unless it is wanted ``now``."""
        return self._put(_Item(lease, kind, run, text.encode("utf-8", "replace"), Future()), urgent=now)

    def flush(self) -> None:
        """Gather no longer."""
        with self._lock:
            self._flush_now = True
            self._lock.notify()

    def _put(self, item: _Item, *, urgent: bool) -> Future[bytes | bool | None]:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="fourlane-journal", daemon=True)
                self._thread.start()
            if item.kind in ("load", "save"):
                self._urgent.append(item)
            else:
                self._output.append(item)
                self._flush_now |= urgent
            self._lock.notify()
        return item.future

    def _work(self) -> None:
        flushed_at = 0.0
        while True:
            with self._lock:
                while not self._urgent and not self._output:
                    self._lock.wait()
                if not self._urgent and not self._flush_now:
                    # Tokens come one by one; together they cost less.
                    self._lock.wait(max(0.0, _GATHER_SECONDS - (time.monotonic() - flushed_at)))
                urgent, self._urgent = self._urgent, []
                output: list[_Item] = []
                if self._flush_now or time.monotonic() - flushed_at >= _GATHER_SECONDS:
                    output, self._output, self._flush_now = self._output, [], False
            if output:  # first, so that a step's output is there before its end can be seen
                self._write(_joined(output), self._write_output)
                flushed_at = time.monotonic()
            self._write(urgent, self._write_steps)

    def _write(self, items: Sequence[_Item], write: Callable[[str, str, list[_Item]], None]) -> None:
        by_lease: dict[tuple[str, str], list[_Item]] = defaultdict(list)
        for item in items:
            by_lease[item.lease.service, item.lease.name].append(item)
        for (service, name), together in by_lease.items():
            for first in range(0, len(together), _BATCH):
                batch = together[first : first + _BATCH]
                try:
                    write(service, name, batch)
                except BaseException as error:
                    for item in batch:
                        if not item.future.done():
                            item.future.set_exception(error)

    def _write_steps(self, service: str, name: str, items: list[_Item]) -> None:
        keys = self._store.service(service)
        loads = [item for item in items if item.kind == "load"]
        saves = [item for item in items if item.kind == "save"]
        args: list[str | bytes | int] = [len(loads), *(item.lease.job_id for item in loads)]
        for item in saves:
            args += [item.lease.entry, item.data]
        found, written = self._store.connector.run("journal", (keys.records, keys.leased(name)), args)
        for item, data in zip(loads, found, strict=True):
            item.future.set_result(data)
        for item, done in zip(saves, written, strict=True):
            item.future.set_result(bool(done))

    def _write_output(self, service: str, name: str, items: list[_Item]) -> None:
        keys = self._store.service(service)
        names = [keys.leased(name)]
        args: list[str | bytes | int] = [OUTPUT_TTL_MS, _MOST_PIECES, _MOST_LINES]
        for item in items:
            places = {"log": keys.log, "progress": keys.progress}
            names.append(places.get(item.kind, keys.output)(item.lease.job_id))
            args += [item.lease.entry, item.kind, item.run, item.data]
        self._store.connector.run_once("output", names, args, keys.sent)
        for item in items:
            item.future.set_result(True)


def _joined(items: Sequence[_Item]) -> list[_Item]:
    """Pieces of one run that follow each other as one piece; of progress the last."""
    kept: dict[tuple[str, str, str], _Item] = {}
    places: dict[tuple[str, str, str], int] = {}
    joined: list[_Item] = []
    for item in items:
        key = (item.lease.entry, item.kind, item.run)
        before = kept.get(key)
        if before is not None and item.kind in ("text", "progress"):
            data = before.data + item.data if item.kind == "text" else item.data
            merged = before._replace(data=data)
            _follow(merged.future, item.future)
            joined[places[key]] = merged
            kept[key] = merged
        else:
            kept[key], places[key] = item, len(joined)
            joined.append(item)
    return joined


def _follow(first: Future[bytes | bool | None], second: Future[bytes | bool | None]) -> None:
    def tell(done: Future[bytes | bool | None]) -> None:
        error = done.exception()
        if error is not None:
            second.set_exception(error)
        else:
            second.set_result(done.result())

    first.add_done_callback(tell)


_journals: dict[tuple[int, int], Journal] = {}
_making = threading.Lock()


def journal_of(store: Store) -> Journal:
    """The journal of a store in this process."""
    key = (os.getpid(), id(store))
    with _making:
        made = _journals.get(key)
        if made is None or made._store is not store:
            made = _journals[key] = Journal(store)
        return made
