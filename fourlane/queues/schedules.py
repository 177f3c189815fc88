"""Stored schedules: their records, and one function for each script.

A schedule has a definition, which its author changes, and a state, which changes with every nominal time. Both are
JSON texts in its service's slot. Every change names the state that it was made from and is refused when that has
moved on: so each nominal time is decided once, and edits and schedulers cannot undo each other.

The history is a list of lines, words parted by spaces, times in milliseconds:
  f NOMINAL DUE AT JOB   a job was made for this nominal time (due is later by spread and jitter)
  n NOMINAL DUE AT JOB   likewise, by hand
  s NOMINAL DUE AT JOB   skipped, because this earlier job was alive
  q NOMINAL DUE AT JOB   to run when this earlier job has ended
  m FIRST LAST AT        nominal times that were missed and are not caught up
  e NOMINAL JOB STATE STARTED MS   a job has ended
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from fourlane.errors import JobNotFound
from fourlane.job import State as JobState
from fourlane.names import Queue, Tier
from fourlane.queues.connection import Link
from fourlane.queues.store import Store

__all__ = ["CatchUp", "Due", "Fire", "Overlap", "Run", "Schedule", "State", "Write"]

CatchUp: TypeAlias = Literal["none", "last", "all"]
Overlap: TypeAlias = Literal["skip", "queue", "replace", "allow"]

HISTORY_RUNS: Final = 100
_DAMAGED_MS: Final = 60_000

log = logging.getLogger("fourlane.scheduler")


class Schedule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule's definition. One of ``cron``, ``every_ms`` and ``at_ms`` is given. Times are since the epoch."""

    name: str
    service: str
    task: str
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    sealed: str = ""
    """The arguments of an encrypted task, in the place of these."""
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


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One line of history as people read it."""

    nominal_ms: int
    at_ms: int
    state: str
    """ready, running … (a job's states), skipped, queued, or missed."""
    job: str = ""
    manual: bool = False
    late_ms: int = 0
    started_ms: int | None = None
    duration_ms: int | None = None
    missed_from_ms: int | None = None


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
    places = {name: place for place, name in enumerate(names, 1)}
    args: list[Any] = []
    for f in fires:
        args += (f.name, places[f.name], *f[1:])
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
    seconds, microseconds = store.connector.command(store.service(service).fires, "TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


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
    flat = store.connector.command(key, "HGETALL", key)
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    return {module.decode(): text for module, text in pairs}


def history(store: Store, service: str, name: str) -> list[Run]:
    """The last runs, the newest first. States of jobs whose end is not noted are asked of the queues."""
    key = store.service(service).runs(name)
    runs: list[Run] = []
    ends: dict[str, list[str]] = {}
    for line in store.connector.command(key, "LRANGE", key, 0, -1):
        kind, *words = line.decode().split(" ")
        if kind == "e":
            ends[words[1]] = words
        elif kind == "m":
            runs.append(
                Run(nominal_ms=int(words[1]), at_ms=int(words[2]), state="missed", missed_from_ms=int(words[0]))
            )
        else:
            nominal, due_at, at, job = int(words[0]), int(words[1]), int(words[2]), words[3]
            state = {"s": "skipped", "q": "queued"}.get(kind, "")
            late = max(0, at - due_at) if not state else 0
            runs.append(Run(nominal_ms=nominal, at_ms=at, state=state, job=job, manual=kind == "n", late_ms=late))
    shown = []
    for run in reversed(runs[-HISTORY_RUNS:]):
        if run.state:
            shown.append(run)
        elif end := ends.get(run.job):
            shown.append(msgspec.structs.replace(run, state=end[2], started_ms=int(end[3]), duration_ms=int(end[4])))
        else:
            shown.append(msgspec.structs.replace(run, state=_state_of(store, service, run.job)))
    return shown


def _state_of(store: Store, service: str, job_id: str) -> str:
    from fourlane.queues import browse

    try:
        return str(browse.job(store, job_id, Queue(service, Tier(int(job_id[0])))).state)
    except JobNotFound:
        return str(JobState.UNKNOWN)
