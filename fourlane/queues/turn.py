"""A worker's turn: what it asks, what it is told, and the words of both in Redis (lua/turn.lua)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import compress
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from fourlane.job import id_of_entry
from fourlane.outcome import Back, Cancel, Dead, Done, Outcome, Postpone, Result, Retry, Stepped
from fourlane.queues.beat import SILENCE_MS
from fourlane.queues.keys import ServiceKeys

__all__ = ["Ask", "First", "Leased", "Turn", "read_turn", "turn_words"]

_ASKED: Final = ("ages", "beat", "control", "lines", "look", "news", "watch")
"""The fields of Ask that go to Redis by their names."""
_are_asked: Final = attrgetter(*_ASKED)


class First(NamedTuple):
    """A tier to lease from before the others, and the most from it."""

    tier: str
    most: int


class Ask(msgspec.Struct, frozen=True):
    """What a turn asks, besides settling what finished."""

    want: int = 0
    """How many jobs to lease."""
    tiers: str = ""
    """From which tiers, in their order, such as ``013``."""
    first: First | None = None
    held: int = 0
    """How many leases the worker believes to hold, besides those that it settles."""
    look: bool = False
    """Keep house: what is due becomes ready; who else is there, and fell silent?"""
    beat: bool = False
    """The worker is alive."""
    news: bool = False
    """Is a delayed job due earlier than known?"""
    ages: bool = False
    """How long has each tier waited?"""
    watch: bool = False
    """Another worker shall watch this one, once it holds leases."""
    control: bool = False
    """The service has limits, and the turn shall give back what jobs held of them."""
    lines: bool = False
    """Jobs that it settles may have places in lines."""
    silence_ms: int = SILENCE_MS
    """After so long without a beat it counts as dead, while it holds leases."""
    idle_silence_ms: int = SILENCE_MS
    """And while it holds none."""
    ahead: bool = False
    """It is asked ahead, to run when a wait ends, and only leases."""

    @property
    def tried(self) -> str:
        """All tiers from which it may lease."""
        return self.tiers if self.first is None else self.tiers + self.first.tier


class Leased(NamedTuple):
    """A job as a turn hands it out."""

    entry: str
    body: bytes
    record: bytes
    crashes: int


class Turn(msgspec.Struct, frozen=True):
    """What a turn told. Milliseconds, infinite when there is none; None was not looked at."""

    gone: bool = False
    """It was asked ahead by a worker that has left: nothing was done."""
    lost: bool = False
    """Its leases ran out: nothing was done."""
    off: bool = False
    """It holds another number of leases than it believes."""
    refused: list[str] = []
    """Entries that it does not hold any more."""
    faults: list[tuple[str, str]] = []
    """Entries whose outcome Redis refused to write, with its words: they are held still."""
    dropped: int = 0
    """Old dead letters that went to keep their number and age."""
    news: bool = False
    """A delayed job may be due earlier than known."""
    due_in: float | None = None
    """Until the next delayed job is due."""
    expired: list[str] = []
    """Workers whose time ran out."""
    expires_in: float | None = None
    """Until the next one's does."""
    workers: int | None = None
    ages: list[float | None] = []
    """By tier, how long its oldest job has waited, None when it has none; empty when not asked."""
    jobs: list[Leased] = []
    more: str = ""
    """Tiers that may have more."""
    controlled: bool = False
    """The service has limits."""
    lines: bool = False
    """Jobs of the service name lines."""
    room_in: float = math.inf
    """Until a limit has room."""
    beaten: bool = False
    """It was idle, and counts as one that holds leases from now on."""
    now_ms: int = 0
    """Redis's time, when it was needed; else 0."""


def turn_words(
    keys: ServiceKeys,
    name: str,
    ask: Ask,
    *,
    done: Sequence[str] = (),
    others: Sequence[tuple[str, Outcome]] = (),
    done_before: str = "",
    idle_from_ms: int = 0,
    dead: tuple[int, int],
) -> tuple[list[bytes], list[Any]]:
    """What lua/turn.lua takes: its keys and its arguments.

    Parameters:
      dead: how many dead letters are kept, and for how many milliseconds.
      idle_from_ms: asked ahead: idle is then who need not be heard of before this moment.
    """
    names = [*keys.all, keys.leased(name)]
    asked = " ".join(compress(_ASKED, _are_asked(ask)))
    first = f"{ask.first.tier}:{ask.first.most}" if ask.first is not None else ""
    words: list[Any] = [
        name, asked, ask.silence_ms, ask.idle_silence_ms, idle_from_ms, ask.held, *dead,
        ask.want, ask.tiers, first, done_before, len(done), *done,
    ]  # fmt: skip
    for entry, outcome in others:
        words += _outcome_words(entry, outcome)
        plain = outcome.outcome if isinstance(outcome, Stepped) else outcome
        if isinstance(plain, Result) or (isinstance(plain, Dead) and plain.value):
            names.append(keys.result(id_of_entry(entry)))
    if done_before:
        names.append(keys.counted(name))
    return names, words


def _outcome_words(entry: str, outcome: Outcome) -> tuple[Any, ...]:
    match outcome:
        case Result(value, ttl_ms):
            return ("result", entry, value, ttl_ms, "", "")
        case Retry(delay_ms, record, _):
            return ("retry", entry, delay_ms, record, "", "")
        case Postpone(delay_ms, record, unknown_task):
            return ("postpone", entry, delay_ms, record, unknown_task, "")
        case Back():
            return ("back", entry, "", "", "", "")
        case Cancel():
            return ("cancelled", entry, "", "", "", "")
        case Dead(reason, detail, record, value, ttl_ms):
            return ("dead", entry, f"{reason}\n{detail}", record, value, ttl_ms)
        case Done():
            return ("done", entry, "", "", "", "")
        case Stepped(plain):
            word, *rest = _outcome_words(entry, plain)
            return (f"{word}+", *rest)
    raise AssertionError(outcome)


def read_turn(reply: list[Any]) -> Turn:
    """Of the reply of lua/turn.lua: names, each with what it stands for. Most tell of few things."""
    told: dict[str, Any] = {}
    for i in range(0, len(reply), 2):
        field, read = _TOLD[reply[i]]
        told[field] = read(reply[i + 1])
    return Turn(**told)


def _until(milliseconds: int) -> float:
    return math.inf if milliseconds < 0 else milliseconds


def _read_texts(texts: Sequence[bytes]) -> list[str]:
    return [text.decode() for text in texts]


def _read_faults(words: Sequence[bytes]) -> list[tuple[str, str]]:
    return [(words[i].decode(), words[i + 1].decode("utf-8", "replace")) for i in range(0, len(words), 2)]


def _read_ages(ages: Sequence[int]) -> list[float | None]:
    return [None if age < 0 else age for age in ages]


def _read_jobs(leased: Sequence[Sequence[Any]]) -> list[Leased]:
    entries, bodies, records = leased
    jobs: list[Leased] = []
    marked = iter(records)
    for entry, body in zip(entries, bodies, strict=True):
        text = entry.decode()
        if "|r" in text:
            record, crashes = next(marked), next(marked)
            jobs.append(Leased(text, body, record if isinstance(record, bytes) else b"", _number(crashes)))
        else:
            jobs.append(Leased(text, body, b"", 0))
    return jobs


def _number(text: Any) -> int:
    return int(text) if isinstance(text, bytes) and text.isdigit() else 0


_TOLD: Final[dict[bytes, tuple[str, Callable[[Any], Any]]]] = {
    b"gone": ("gone", bool),
    b"lost": ("lost", bool),
    b"off": ("off", bool),
    b"refused": ("refused", _read_texts),
    b"faults": ("faults", _read_faults),
    b"dropped": ("dropped", int),
    b"news": ("news", bool),
    b"due_in": ("due_in", _until),
    b"expired": ("expired", _read_texts),
    b"expires_in": ("expires_in", _until),
    b"workers": ("workers", int),
    b"ages": ("ages", _read_ages),
    b"jobs": ("jobs", _read_jobs),
    b"more": ("more", bytes.decode),
    b"control": ("controlled", bool),
    b"lines": ("lines", bool),
    b"room_in": ("room_in", float),
    b"beaten": ("beaten", bool),
    b"now": ("now_ms", int),
}
"""What the reply may tell: the field of Turn, and how it is read."""
