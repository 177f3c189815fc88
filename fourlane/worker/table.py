"""The table that a worker process shares with its supervisor: what it holds, what it runs, and what it may.

It lives in a file mapped by both, so that it can be read after the process died and while user code holds the
interpreter's lock. Each field has one writer: the supervisor of what it grants, the worker process of all else. A torn
read can at worst misjudge one crash.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import Final, NamedTuple, TypeVar

import msgspec

from fourlane.worker.unnamed import unnamed_file

__all__ = ["Blame", "Leave", "Running", "Table", "Vitals"]

_LEAVE_AT: Final = 48
_TRIAL_AT: Final = 49
_BEATEN_AT: Final = 56
_VITALS_AT: Final = 64
_HELD_AT: Final = 2_048
_MOST_SERVICES: Final = 4_096
_NAMES_AT: Final = _HELD_AT + 4 * _MOST_SERVICES
_ROWS_AT: Final = 262_144  # room for the names of some 1,700 services; unused pages cost nothing
_ROW: Final = struct.Struct("<dHH")  # hard limit on the monotonic clock (0 none), service's number, entry's length
_ROW_BYTES: Final = 320  # a free row has the length 0
_ENTRY_AT: Final = _ROW.size
_PASSED, _SUSPECT = 1 << 15, 1 << 14  # beside a service's number
_READS: Final = 5

T = TypeVar("T")


class Running(msgspec.Struct, frozen=True):
    """One job that has begun."""

    service: int
    entry: str
    hard_deadline: float
    passed: bool = False
    """It lived through its own trial here (worker/loop/apart.py)."""
    suspected: bool = False
    """One more death could make it poison."""


class Blame(NamedTuple):
    """What a process's death tells of the jobs that ran in it.

    Parameters:
      crashed: those that may have ended it. In a trial not those that passed their own.
      passed: those that did.
      alone: one was on trial, and no other suspect ran.
      escaped: none was on trial any more, and some had passed theirs.
      ran: how many there were.
    """

    crashed: list[Running]
    passed: list[Running]
    alone: bool
    escaped: bool
    ran: int


class Leave(NamedTuple):
    """What the supervisor allows a process in respect of suspects (worker/loop/apart.py).

    Parameters:
      tries: they may begin here now.
      wary: processes die one after the other.
      escapes: how often of late one died after all suspects in it had passed their trials: those were too short.
    """

    tries: bool = True
    wary: bool = False
    escapes: int = 0


class Vitals(msgspec.Struct, frozen=True):
    """How a process is, by a thread that lives while its main thread hangs.

    Parameters:
      pulse: grows each second, unless the process is stopped or its interpreter is held.
      excused: Redis refuses what it asks, for all its services.
      wrong: why it must be ended; empty when all is well.
      declared: the last order to declare schedules and limits that it carried out.
      limit_at: when the first of its running jobs passes its time limit, on the monotonic clock; 0: none has one.
      job, task: that job.
    """

    pulse: int = 0
    excused: bool = False
    wrong: str = ""
    declared: int = -1
    limit_at: float = 0.0
    job: str = ""
    task: str = ""


class Table:
    """Rows of running jobs, and the header."""

    def __init__(self, fd: int, rows: int) -> None:
        self.fd = fd
        self.rows = rows
        self.map = mmap.mmap(fd, _ROWS_AT + rows * _ROW_BYTES)
        self._rows = [_ROWS_AT + row * _ROW_BYTES for row in range(rows)]

    @classmethod
    def create(cls, rows: int) -> Table:
        fd = unnamed_file()
        try:
            os.ftruncate(fd, _ROWS_AT + rows * _ROW_BYTES)
            os.set_inheritable(fd, True)
            table = cls(fd, rows)
        except OSError:
            os.close(fd)
            raise
        table.grant(Leave())
        return table

    def begin(self, row: int, service: int, entry: bytes, hard_deadline: float) -> None:
        at = self._rows[row]
        entry = entry[: _ROW_BYTES - _ENTRY_AT]
        self.map[at + _ENTRY_AT : at + _ENTRY_AT + len(entry)] = entry
        _ROW.pack_into(self.map, at, hard_deadline, service, len(entry))

    def end(self, row: int) -> None:
        _ROW.pack_into(self.map, self._rows[row], 0.0, 0, 0)

    def running(self) -> list[Running]:
        found = []
        for at in self._rows:
            hard_deadline, service, length = _ROW.unpack_from(self.map, at)
            if length:
                entry = self.map[at + _ENTRY_AT : at + _ENTRY_AT + length].decode(errors="replace")
                marks = bool(service & _PASSED), bool(service & _SUSPECT)
                found.append(Running(service & ~(_PASSED | _SUSPECT), entry, hard_deadline, *marks))
        return found

    def suspect(self, row: int) -> None:
        """One more death could make its job poison."""
        self._mark(row, _SUSPECT)

    def passes(self, row: int) -> None:
        """Its job lived through its trial."""
        self._mark(row, _PASSED)

    def _mark(self, row: int, mark: int) -> None:
        at = self._rows[row]
        hard_deadline, service, length = _ROW.unpack_from(self.map, at)
        if length:
            _ROW.pack_into(self.map, at, hard_deadline, service | mark, length)

    def blame(self) -> Blame:
        """Once the process is dead."""
        running, trial = self.running(), bool(self.map[_TRIAL_AT])
        passed = [job for job in running if job.passed]
        crashed = [job for job in running if not (trial and job.passed)] or running
        alone = trial and not passed and sum(job.suspected for job in running) == 1
        return Blame(crashed, passed, alone, bool(passed) and not trial, len(running))

    def publish_trial(self, goes_on: bool) -> None:
        self.map[_TRIAL_AT] = goes_on

    def grant(self, leave: Leave) -> None:
        """The supervisor's word."""
        self.map[_LEAVE_AT] = leave.tries | leave.wary << 1 | leave.escapes << 2

    def leave(self) -> Leave:
        bits = self.map[_LEAVE_AT]
        return Leave(bool(bits & 1), bool(bits & 2), bits >> 2)

    def beat(self, at: float) -> None:
        """The supervisor's word: it told Redis that this process lives."""
        struct.pack_into("<d", self.map, _BEATEN_AT, at)

    @property
    def beaten_at(self) -> float:
        return float(struct.unpack_from("<d", self.map, _BEATEN_AT)[0])

    def publish(self, turned_at: float, held: int, finished: int) -> None:
        struct.pack_into("<dIQ", self.map, 0, turned_at, held, finished)

    def publish_held(self, service: int, held: int) -> None:
        """How many leases it holds of one service."""
        struct.pack_into("<I", self.map, _HELD_AT + 4 * service, held)

    def holding(self) -> set[int]:
        """The services of which it holds leases, or runs jobs that it could not tell of yet."""
        held = struct.unpack_from(f"<{_MOST_SERVICES}I", self.map, _HELD_AT)
        return {number for number, count in enumerate(held) if count} | {r.service for r in self.running()}

    def publish_names(self, names: dict[str, str]) -> None:
        """The lease name of each service, in the order of the services' numbers."""
        data = msgspec.json.encode(names)
        if len(data) > _ROWS_AT - _NAMES_AT or len(names) > _MOST_SERVICES:
            raise ValueError(f"{len(names)} services are too many for one process; use --services")
        self._write(_NAMES_AT, 40, data)

    def names(self) -> dict[str, str]:
        return self._read(_NAMES_AT, 40, dict[str, str]) or {}

    def publish_vitals(self, vitals: Vitals) -> None:
        self._write(_VITALS_AT, 44, msgspec.json.encode(vitals))

    def vitals(self) -> Vitals:
        return self._read(_VITALS_AT, 44, Vitals) or Vitals()

    def _write(self, at: int, length_at: int, data: bytes) -> None:
        self.map[at : at + len(data)] = data
        struct.pack_into("<I", self.map, length_at, len(data))

    def _read(self, at: int, length_at: int, kind: type[T]) -> T | None:
        for _ in range(_READS):
            (length,) = struct.unpack_from("<I", self.map, length_at)
            try:
                return msgspec.json.decode(self.map[at : at + length], type=kind)
            except msgspec.DecodeError:
                if not length:
                    break  # nothing was published yet; otherwise it is being written right now
        return None

    @property
    def turned_at(self) -> float:
        return float(struct.unpack_from("<d", self.map, 0)[0])

    @property
    def held(self) -> int:
        return int(struct.unpack_from("<dI", self.map, 0)[1])

    @property
    def finished(self) -> int:
        return int(struct.unpack_from("<dIQ", self.map, 0)[2])

    def close(self) -> None:
        self.map.close()
        os.close(self.fd)
