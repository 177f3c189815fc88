"""A job's identity and record: plain data, no clock of its own, no Redis.

An id is 14 characters: the tier's digit, 7 digits of time (milliseconds, base 64, so that ids sort by age) and
6 random ones. 14 characters are what Redis stores in its smallest string, and a collision within one
millisecond is one in 69 billion; it is detected, and answered with another id. The random ones come from the kernel, so
that nobody guesses them from others'. Still an id is a name and no password.
A message id that another program chose (dramatiq's UUIDs) is kept: its id is the tier's digit, a dot and itself.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final

import msgspec

from fourlane.errors import InvalidName
from fourlane.names import Tier

__all__ = [
    "Attempt",
    "JobInfo",
    "Record",
    "State",
    "enqueued_at_ms",
    "entry_of",
    "has_run",
    "id_of_entry",
    "id_of_message",
    "message_id_of",
    "new_id",
    "new_ids",
    "ready_since_ms",
]

_DIGITS: Final = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
_VALUE: Final = {digit: value for value, digit in enumerate(_DIGITS)}
_PAIRS: Final = [a + b for a in _DIGITS for b in _DIGITS]
_OWN_LENGTH: Final = 14
_MAX_MESSAGE_ID: Final = 200
_MASK: Final = 2**36 - 1
_STORED_NUMBERS: Final = struct.Struct("=512Q")
_numbers: Iterator[int] = iter(())


class State(StrEnum):
    """Where a job is in its life."""

    READY = "ready"
    DELAYED = "delayed"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # done with no result kept, expired, or never accepted


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run that failed."""

    at_ms: int
    error: str
    traceback: str = ""
    worker: str = ""


class Record(msgspec.Struct, omit_defaults=True):
    """What is kept of a job beside its body, once there is something to keep."""

    attempts: int = 0
    errors: list[Attempt] = []
    options: dict[str, Any] = {}
    unknown_since_ms: int = 0
    unknown_tries: int = 0
    replays: int = 0


class JobInfo(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one job."""

    id: str
    queue: str
    state: State
    task: str = ""
    tenant: str = ""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    options: dict[str, Any] = {}
    enqueued_at_ms: int | None = None
    due_at_ms: int | None = None
    died_at_ms: int | None = None
    reason: str = ""
    detail: str = ""
    attempts: int = 0
    crashes: int = 0
    errors: list[Attempt] = []
    worker: str = ""


def _random() -> int:
    """A number that nobody can foretell. The kernel is asked for many at once: one by one each costs ten times more."""
    number = next(_numbers, None)  # threads may share an iterator: none gets the same one
    return (_ask_kernel() if number is None else number) & _MASK


def _ask_kernel() -> int:
    global _numbers
    numbers = iter(_STORED_NUMBERS.unpack(os.urandom(_STORED_NUMBERS.size)))
    _numbers = numbers
    return int(next(numbers))


def _forget_numbers() -> None:
    global _numbers
    _numbers = iter(())


os.register_at_fork(after_in_child=_forget_numbers)  # the parent hands them out too


def new_id(tier: int, now_ms: int) -> str:
    """A fresh id."""
    r = _random()
    return (
        f"{tier}{_DIGITS[now_ms >> 36 & 63]}{_PAIRS[now_ms >> 24 & 4095]}{_PAIRS[now_ms >> 12 & 4095]}"
        f"{_PAIRS[now_ms & 4095]}{_PAIRS[r >> 24]}{_PAIRS[r >> 12 & 4095]}{_PAIRS[r & 4095]}"
    )


def new_ids(tier: int, now_ms: int, count: int) -> list[str]:
    """Fresh ids that sort in this order: one random number and those that follow it, so never two that are equal."""
    first = _random()
    time = new_id(tier, now_ms)[:8]
    ids: list[str] = []
    while len(ids) < count:
        low = first & 4095
        head = f"{time}{_PAIRS[first >> 24]}{_PAIRS[first >> 12 & 4095]}"
        ids += [head + pair for pair in _PAIRS[low : low + count - len(ids)]]
        first = (first - low + 4096) % 2**36
    return ids


def _is_own(job_id: str) -> bool:
    return len(job_id) == _OWN_LENGTH and job_id[0] in "0123" and not job_id[1:].strip(_DIGITS)


def enqueued_at_ms(job_id: str) -> int | None:
    """The time that one of our own ids carries; None for an id chosen elsewhere."""
    if not _is_own(job_id):
        return None
    time_ms = 0
    for digit in job_id[1:8]:
        time_ms = time_ms * 64 + _VALUE[digit]
    return time_ms


def ready_since_ms(entry: str) -> int | None:
    """Since when the job of an entry may run (lua/parts/entries.lua); None when its id does not tell."""
    job_id, _, marks = entry.partition("|")
    _, marked, since = marks.partition("t")
    return int(since) if marked else enqueued_at_ms(job_id)


def id_of_message(message_id: str, tier: Tier) -> str:
    """The id under which a message is stored."""
    if _is_own(message_id) and message_id[0] == str(int(tier)):
        return message_id
    if not message_id or len(message_id) > _MAX_MESSAGE_ID or "|" in message_id or not message_id.isprintable():
        raise InvalidName(f"{message_id!r} is no job id: 1 to {_MAX_MESSAGE_ID} printable characters, none of them |")
    return f"{int(tier)}.{message_id}"


def message_id_of(job_id: str) -> str:
    """The id that callers know: the other way of id_of_message."""
    return job_id[2:] if job_id[1:2] == "." else job_id


def entry_of(job_id: str, timestamp_ms: int) -> str:
    """What a ready list holds: the id, and the time where the id does not carry it (lua/parts/entries.lua)."""
    return f"{job_id}|t{timestamp_ms}" if job_id[1:2] == "." else job_id


def id_of_entry(entry: str) -> str:
    return entry.partition("|")[0]


def has_run(entry: str) -> bool:
    """Whether the job of an entry has a record or a crash: an earlier run of it failed, or was lost."""
    return entry.partition("|")[2].startswith("r")
