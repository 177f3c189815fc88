"""Stored schedules: their records, and one function for each script.

A schedule has a definition, which its author changes, and a state, which changes with every nominal time. Both are
JSON texts in its service's slot. Every change names the state that it was made from and is refused when that has
moved on: so each nominal time is decided once, and edits and schedulers cannot undo each other.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from fourlane.queues.redis import Link
from fourlane.queues.redis.clock import time_ms
from fourlane.queues.redis.replies import fields
from fourlane.queues.store import Store

__all__ = ["CatchUp", "Due", "Fire", "Overlap", "Schedule", "State", "Write"]

CatchUp: TypeAlias = Literal["none", "last", "all"]
Overlap: TypeAlias = Literal["skip", "queue", "replace", "allow"]

_DAMAGED_MS: Final = 60_000

log = logging.getLogger("fourlane.scheduler")


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule's definition. One of ``cron``, ``every_ms`` and ``at_ms`` is given. Times are since the epoch."""

    name: str
    service: str
    task: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    tier: int = 3
    cron: str = ""
    timezone: str = "UTC"
    twice: bool | None = None
    every_ms: int = 0
    anchor_ms: int = 0
    at_ms: list[int] = []
    start_ms: int = 0
    end_ms: int = 0
    max_runs: int = 0
    spread_ms: int = 0
    jitter_ms: int = 0
    catch_up: CatchUp = "last"
    catch_up_window_ms: int = 3_600_000
    overlap: Overlap = "skip"
    late_after_ms: int = 60_000
    module: str = ""
    """The module that declares it; empty for one that was added at run time."""
    place: str = ""
    """Where it is declared."""


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What changes with every nominal time. 0 and empty mean none."""

    version: str
    next_ms: int = 0
    last_ms: int = 0
    """The last nominal time that was decided: a job was made, or a record why not."""
    runs: int = 0
    skipped: int = 0
    job: str = ""
    queued_ms: int = 0
    """The nominal time whose job waits for the end of the one before."""
    paused: bool = False


class Due(NamedTuple):
    """What a scheduler was told. ``wait_ms`` -1: nothing is scheduled at all."""

    now_ms: int
    word: str
    wait_ms: int
    found: list[tuple[Schedule, State, bytes]]


class Fire(NamedTuple):
    """One nominal time to decide (lua/schedule_fire.lua). The same fields twice: when it fires, and when it may not."""

    name: str
    state: bytes
    not_before_ms: int
    entry: str
    body: bytes
    former: str
    new_state: bytes
    due_ms: int
    line: str
    alive_state: bytes = b""
    alive_due_ms: int = 0
    alive_line: str = ""


class Write(NamedTuple):
    """One schedule to write. Definition: None keeps it, an empty one removes the schedule."""

    name: str
    state: bytes
    definition: bytes | None
    new_state: bytes = b""
    due_ms: int = 0


encode = msgspec.json.Encoder().encode
_read_schedule = msgspec.json.Decoder(Schedule).decode
read_state = msgspec.json.Decoder(State).decode


def version_of(definition: bytes) -> str:
    return hashlib.sha1(definition, usedforsecurity=False).hexdigest()[:12]


def due(store: Store, link: Link, service: str, me: str, *, lead_ms: int, ahead_ms: int, most: int) -> Due:
    """Ask what is due within ``ahead_ms``, and for the lead (lua/schedule_due.lua)."""
    keys = store.service(service)
    reply = link.run(
        "schedule_due", (keys.fires, keys.schedules, keys.states, keys.lead), (me, lead_ms, ahead_ms, most)
    )
    now, word = int(reply[0]), reply[1].decode()
    if word != "due":
        return Due(now, word, int(reply[2]), [])
    found = _read(zip(reply[3], reply[4], strict=True))
    if len(found) < len(reply[2]):
        readable = {schedule.name for schedule, _, _ in found}
        damaged = [name for name in reply[2] if name.decode() not in readable]
        log.error("unreadable schedule(s) in %s: %s", service, b", ".join(damaged).decode())
        link.command("ZADD", keys.fires, "XX", *(x for name in damaged for x in (now + _DAMAGED_MS, name)))
    return Due(now, word, 0, found)


def _read(pairs: Iterable[tuple[bytes | None, bytes | None]]) -> list[tuple[Schedule, State, bytes]]:
    found = []
    for definition, state in pairs:
        if definition and state:
            try:
                found.append((_read_schedule(definition), read_state(state), state))
            except msgspec.DecodeError:
                continue  # damaged, or of a version to come: nobody else is harmed
    return found


def fire(store: Store, link: Link, service: str, fires: Sequence[Fire]) -> tuple[int, list[str]]:
    """Decide nominal times. Returns the time, and a word for each (lua/schedule_fire.lua)."""
    keys = store.service(service)
    names = list(dict.fromkeys(f.name for f in fires))
    numbers = {name: number for number, name in enumerate(names, 1)}
    args: list[Any] = []
    for f in fires:
        args += (f.name, numbers[f.name], *f[1:])
    reply = link.run("schedule_fire", [*keys.all, keys.states, keys.fires, keys.lateness, *map(keys.runs, names)], args)
    return int(reply[0]), [word.decode() for word in reply[1:]]


def write(
    store: Store, service: str, writes: Sequence[Write], declared: Sequence[tuple[str, bytes, bytes]] = ()
) -> bool:
    """Write schedules and what modules declare, all or nothing. False: something was not as it was read."""
    keys = store.service(service)
    args: list[Any] = [len(declared)]
    for triple in declared:
        args += triple
    for w in writes:
        definition = b"" if w.definition is None else w.definition or b"-"
        args += (w.name, w.state, definition, w.new_state, w.due_ms)
    names = (
        keys.schedules,
        keys.states,
        keys.fires,
        keys.declared,
        keys.lateness,
        *[keys.runs(w.name) for w in writes],
    )
    return bool(store.connector.run_once("schedule_write", names, args, keys.sent)[0])


def ended(store: Store, service: str, name: str, line: str) -> None:
    """Note the end of a scheduled job; a run that waits for it is made due."""
    keys = store.service(service)
    if store.connector.run_once("schedule_ended", (keys.states, keys.fires, keys.runs(name)), (name, line), keys.sent):
        tell(store)


def tell(store: Store) -> None:
    """Wake schedulers: something is due earlier than they know. Two of them, for one may just be dying."""
    key = store.keys.edits
    store.connector.command(key, "ZADD", key, 0, "a", 0, "b")


def now_ms(store: Store, service: str) -> int:
    """The time of the server that holds this service."""
    return time_ms(store.connector, store.service(service).fires)


def read(store: Store, service: str, names: Sequence[str]) -> dict[str, tuple[Schedule, State, bytes]]:
    """Schedules by their names; those that do not exist are missing."""
    if not names:
        return {}
    keys = store.service(service)
    # States first: what changes in between makes a later write fail, for states are compared, and so is tried again.
    states = store.connector.command(keys.states, "HMGET", keys.states, *names)
    definitions = store.connector.command(keys.schedules, "HMGET", keys.schedules, *names)
    return {s.name: (s, state, text) for s, state, text in _read(zip(definitions, states, strict=True))}


def lateness(store: Store, service: str, names: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Of each schedule's last job: its nominal time, when it was due, and when it was made."""
    if not names:
        return {}
    key = store.service(service).lateness
    found = zip(names, store.connector.command(key, "HMGET", key, *names), strict=True)
    return {name: _three(text) for name, text in found if text}


def _three(text: bytes) -> tuple[int, int, int]:
    nominal, due_at, at = map(int, text.split())
    return nominal, due_at, at


def names(store: Store, service: str) -> list[str]:
    """The names of a service's schedules."""
    key = store.service(service).schedules
    return sorted(name.decode() for name in store.connector.command(key, "HKEYS", key))


def declared(store: Store, service: str) -> dict[str, bytes]:
    """What modules declared, by module."""
    key = store.service(service).declared
    return fields(store.connector.command(key, "HGETALL", key))
