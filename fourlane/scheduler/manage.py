"""What people do with schedules: add and change, pause, resume, fire, remove, look."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from fourlane import codec
from fourlane.errors import FourlaneError, InvalidSchedule, ScheduleNotFound
from fourlane.names import Tier, check_service
from fourlane.queues import carry, schedules
from fourlane.queues.schedules import Fire, Schedule, State, Write
from fourlane.queues.store import Store
from fourlane.scheduler.plan import following, next_look_ms, rule_of
from fourlane.scheduler.rules import read_zone
from fourlane.scheduler.ticker import make_job

if TYPE_CHECKING:
    from fourlane.queues.history import Run

__all__ = [
    "Found",
    "check",
    "every_schedule",
    "find",
    "fire",
    "history",
    "pause",
    "put",
    "remove",
    "resume",
    "times",
    "written",
]

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}")
_TRIES: Final = 50
_RULE_FIELDS: Final = (
    "cron", "timezone", "twice", "every_ms", "anchor_ms", "at_ms", "start_ms", "end_ms", "spread_ms", "jitter_ms",
)  # fmt: skip


class Found(msgspec.Struct, frozen=True):
    """A schedule as it stands."""

    schedule: Schedule
    state: State
    due_ms: int
    """When it is acted upon next; 0: not by itself."""
    fired_ms: int = 0
    late_ms: int = 0
    """How long after its time its last job was made."""


def check(schedule: Schedule) -> None:
    """Refuse what cannot be. Raises InvalidSchedule."""
    if not _NAME.fullmatch(schedule.name):
        raise InvalidSchedule(
            f"{schedule.name!r} is no schedule name: letters, digits, and _ . : - inside, at most 100 characters"
        )
    check_service(schedule.service)
    Tier.parse(schedule.tier)
    if sum(map(bool, (schedule.cron, schedule.every_ms, schedule.at_ms))) != 1:
        raise InvalidSchedule("give exactly one of a cron expression, an interval and dates")
    read_zone(schedule.timezone)
    for name in ("max_runs", "spread_ms", "jitter_ms", "catch_up_window_ms", "late_after_ms"):
        if getattr(schedule, name) < 0:
            raise InvalidSchedule(f"{name} must be 0 or more, not {getattr(schedule, name)}")
    for name, words in (("catch_up", ("none", "last", "all")), ("overlap", ("skip", "queue", "replace", "allow"))):
        if getattr(schedule, name) not in words:
            raise InvalidSchedule(f"{name} must be one of {', '.join(words)}, not {getattr(schedule, name)!r}")
    rule = rule_of(schedule)
    if schedule.end_ms and schedule.end_ms < schedule.start_ms:
        raise InvalidSchedule("its end lies before its start")
    if not following(schedule, rule, 0):
        raise InvalidSchedule("it never fires: no time of its rule lies between its start and its end")
    try:
        codec.encode(schedule.task, schedule.args, schedule.kwargs)
    except FourlaneError as error:
        raise InvalidSchedule(str(error)) from None


def put(store: Store, schedule: Schedule) -> bool:
    """Add a schedule, or change the one of this name. False when it was so already.

    A changed rule counts from now; what its old rule had due already is not lost when the new rule has it too.

    Raises:
      InvalidSchedule: it cannot be, it has no time left, or code declares one of this name.
    """
    check(schedule)
    store.announce(schedule.service)

    def change(found: dict[str, tuple[Schedule, State, bytes]], now_ms: int) -> Write | None:
        old = found.get(schedule.name)
        if old is not None and old[0].module:
            raise InvalidSchedule(f"{schedule.name!r} is declared in code at {old[0].place}; change it there")
        return written(schedule, old, now_ms)

    changed = _change(store, schedule.service, schedule.name, change)
    if changed:
        schedules.tell(store)
    return changed


def written(schedule: Schedule, old: tuple[Schedule, State, bytes] | None, now_ms: int) -> Write | None:
    """How to store a definition beside what is stored; None when it is stored so already."""
    definition = schedules.encode(schedule)
    version = schedules.version_of(definition)
    rule = rule_of(schedule)
    if old is None:
        state = State(version=version, next_ms=_time_left(schedule, following(schedule, rule, now_ms)))
        return Write(schedule.name, b"", definition, schedules.encode(state), next_look_ms(schedule, state, now_ms))
    before, state, text = old
    if state.version == version:
        return None
    next_ms = state.next_ms
    if any(getattr(before, name) != getattr(schedule, name) for name in _RULE_FIELDS) or not next_ms:
        after_ms = min(next_ms - 1, now_ms) if next_ms else now_ms
        next_ms = _time_left(schedule, following(schedule, rule, after_ms))
    if schedule.max_runs and state.runs >= schedule.max_runs:
        next_ms = 0
    state = msgspec.structs.replace(state, version=version, next_ms=next_ms)
    return Write(schedule.name, text, definition, schedules.encode(state), next_look_ms(schedule, state, now_ms))


def _time_left(schedule: Schedule, next_ms: int) -> int:
    if not next_ms and not schedule.module:  # in code it may stay for a while after its last time
        raise InvalidSchedule(f"schedule {schedule.name!r} has no time left: all of them are over")
    return next_ms


def find(store: Store, name: str, service: str | None = None) -> Found:
    """A schedule by its name.

    Raises:
      ScheduleNotFound: there is none.
      InvalidSchedule: several services have one; say which.
    """
    place = _place(store, name, service)
    found = _found(store, place, [name])
    if not found:
        raise ScheduleNotFound(f"there is no schedule {name!r}")
    return found[0]


def every_schedule(store: Store, service: str | None = None) -> Iterator[Found]:
    """All schedules, by service and name."""
    for place in [service] if service else store.services():
        names = schedules.names(store, place)
        for first in range(0, len(names), 1000):
            yield from _found(store, place, names[first : first + 1000])


def _found(store: Store, service: str, names: list[str]) -> list[Found]:
    now_ms = schedules.now_ms(store, service)
    late = schedules.lateness(store, service, names)
    found = []
    for schedule, state, _ in schedules.read(store, service, names).values():
        _, due, at = late.get(schedule.name, (0, 0, 0))
        look = next_look_ms(schedule, state, now_ms) if state.next_ms else 0
        found.append(Found(schedule, state, look, at, max(0, at - due)))
    return found


def history(store: Store, name: str, service: str | None = None) -> list[Run]:
    """The last 100 runs, the newest first. Raises as find does."""
    from fourlane.queues import history as runs

    return runs.history(store, _place(store, name, service), name)


def times(schedule: Schedule, after_ms: int, count: int) -> list[int]:
    """The next nominal times."""
    rule = rule_of(schedule)
    found: list[int] = []
    while len(found) < count and (after_ms := following(schedule, rule, after_ms)):
        found.append(after_ms)
    return found


def pause(store: Store, name: str, service: str | None = None) -> bool:
    """Let it fire no more until it is resumed. False when it was paused already. Raises as find does."""

    def change(schedule: Schedule, state: State, now_ms: int) -> State:
        return msgspec.structs.replace(state, paused=True)

    return _edit(store, name, service, change)


def resume(store: Store, name: str, service: str | None = None) -> bool:
    """End a pause; what would have fired meanwhile does not. False when there was none. Raises as find does."""

    def change(schedule: Schedule, state: State, now_ms: int) -> State:
        if not state.paused:
            return state
        next_ms = following(schedule, rule_of(schedule), max(now_ms, state.last_ms)) if state.next_ms else 0
        return msgspec.structs.replace(state, paused=False, next_ms=next_ms)

    return _edit(store, name, service, change)


def remove(store: Store, name: str, service: str | None = None, *, force: bool = False) -> None:
    """Remove it and its history; jobs that it made stay. Raises as find does.

    Raises:
      InvalidSchedule: code declares it, and would declare it again; ``force`` removes it all the same.
    """
    place = _place(store, name, service)

    def change(found: dict[str, tuple[Schedule, State, bytes]], now_ms: int) -> Write | None:
        if name not in found:
            return None
        schedule, _, text = found[name]
        if schedule.module and not force:
            raise InvalidSchedule(
                f"{name!r} is declared in code at {schedule.place}; remove it there, or pause it, or use force"
            )
        return Write(name, text, b"")

    _change(store, place, name, change)


def fire(store: Store, name: str, service: str | None = None) -> str:
    """Make a job now, besides those of the rule; overlap and run count do not matter. Returns its id.

    Raises as find does.
    """
    carry.refuse_late()
    place = _place(store, name, service)
    for _ in range(_TRIES):
        found = schedules.read(store, place, [name])
        if name not in found:
            raise ScheduleNotFound(f"there is no schedule {name!r}")
        schedule, state, text = found[name]
        now_ms = schedules.now_ms(store, place)
        job_id, body = make_job(schedule, now_ms, now_ms)
        new = schedules.encode(msgspec.structs.replace(state, job=job_id))
        due = next_look_ms(schedule, state, now_ms)
        request = Fire(name, text, 0, job_id, body, "", new, due, f"n {now_ms} {now_ms}")
        link = store.connector.open(store.service(place).fires)
        try:
            _, words = schedules.fire(store, link, place, [request])
        finally:
            link.close()
        if words == ["fired"]:
            return job_id
    raise _too_busy(name)


def _edit(store: Store, name: str, service: str | None, edit: Callable[[Schedule, State, int], State]) -> bool:
    place = _place(store, name, service)

    def change(found: dict[str, tuple[Schedule, State, bytes]], now_ms: int) -> Write | None:
        if name not in found:
            raise ScheduleNotFound(f"there is no schedule {name!r}")
        schedule, state, text = found[name]
        new = edit(schedule, state, now_ms)
        if new == state:
            return None
        return Write(name, text, None, schedules.encode(new), next_look_ms(schedule, new, now_ms))

    changed = _change(store, place, name, change)
    if changed:
        schedules.tell(store)
    return changed


def _change(
    store: Store,
    service: str,
    name: str,
    change: Callable[[dict[str, tuple[Schedule, State, bytes]], int], Write | None],
) -> bool:
    carry.refuse_late()
    for _ in range(_TRIES):
        wanted = change(schedules.read(store, service, [name]), schedules.now_ms(store, service))
        if wanted is None:
            return False
        if schedules.write(store, service, [wanted]):
            return True
    raise _too_busy(name)


def _place(store: Store, name: str, service: str | None) -> str:
    if service is not None:
        return check_service(service)
    places = [s for s in store.services() if schedules.read(store, s, [name])]
    if not places:
        raise ScheduleNotFound(f"there is no schedule {name!r}; `fourlane schedules list` shows all")
    if len(places) > 1:
        raise InvalidSchedule(f"the services {', '.join(places)} have a schedule {name!r} each; say which")
    return places[0]


def _too_busy(name: str) -> FourlaneError:
    return FourlaneError(f"the schedule {name!r} changes too fast to be written; try again")
