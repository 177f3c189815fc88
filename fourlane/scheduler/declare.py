"""Schedules declared in code: the decorators, what they refuse, and how Redis learns of them.

A worker process tells Redis at its start what the modules that it has imported declare (``synchronise``). The unit is
the module: what a module declared before and declares no more goes, what another program declares stays. When two
deploys run at once the younger one's word counts, so that a restarted process of the old one changes nothing.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import dramatiq
import msgspec

from fourlane.errors import FourlaneError, InvalidSchedule
from fourlane.names import Tier
from fourlane.queues import schedules
from fourlane.queues.broker import RedisBroker
from fourlane.queues.schedules import CatchUp, Overlap, Schedule, Write
from fourlane.queues.store import Store
from fourlane.scheduler.jobs import sealed

__all__ = ["add", "cron", "every", "synchronise", "synchronise_module"]

log = logging.getLogger("fourlane.scheduler")

T = TypeVar("T", bound="dramatiq.Actor[Any, Any]")
_TRIES: Final = 50
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def cron(
    expression: str,
    *,
    timezone: str = "UTC",
    twice: bool | None = None,
    name: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    tier: Tier | str | int = Tier.P3,
    start: datetime | None = None,
    end: datetime | None = None,
    max_runs: int = 0,
    spread_seconds: float = 0,
    jitter_seconds: float = 0,
    catch_up: CatchUp = "last",
    catch_up_window_seconds: float = 3600,
    overlap: Overlap = "skip",
    late_after_seconds: float = 60,
) -> Callable[[T], T]:
    """Run the task below at the times of a cron expression. Put it above ``@fourlane.task``.

    Parameters:
      expression: 5 fields, 6 with seconds before them, or ``@hourly`` and the like (fourlane.scheduler.rules.Cron).
      timezone: an IANA name, in which the expression is read.
      twice: whether a wall time that comes twice, when clocks go back, fires twice; by default only where the hour
        is ``*``. What clocks jump over fires once, at the end of the gap.
      name: the schedule's; the task's own by default. Two of one task need two names.
      args, kwargs: the job's arguments.
      tier: P3 ``scheduled`` by default.
      start, end: no nominal time before and after these.
      max_runs: jobs to make in all; 0: any number.
      spread_seconds: fire later by up to so much, always the same for this name, so that not all fire together.
      jitter_seconds: fire later by up to so much, each time another.
      catch_up: ``none``, ``last`` or ``all`` of the nominal times that were missed by more than a minute.
      catch_up_window_seconds: how old a nominal time may be to be caught up.
      overlap: when the job before is not done yet: ``skip``, ``queue`` one, ``replace`` (cancel it), or ``allow``.
      late_after_seconds: a job made later than this is warned of.

    Raises:
      InvalidSchedule: with the reason and the place.
    """
    return _declare(**_rule_options(locals()), cron=expression, timezone=timezone, twice=twice)


def every(
    *,
    weeks: float = 0,
    days: float = 0,
    hours: float = 0,
    minutes: float = 0,
    seconds: float = 0,
    anchor: datetime | None = None,
    name: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    tier: Tier | str | int = Tier.P3,
    start: datetime | None = None,
    end: datetime | None = None,
    max_runs: int = 0,
    spread_seconds: float = 0,
    jitter_seconds: float = 0,
    catch_up: CatchUp = "last",
    catch_up_window_seconds: float = 3600,
    overlap: Overlap = "skip",
    late_after_seconds: float = 60,
) -> Callable[[T], T]:
    """Run the task below at an interval, which no change of clocks disturbs. Put it above ``@fourlane.task``.

    Parameters:
      weeks, days, hours, minutes, seconds: the interval, 1 second or longer.
      anchor: the moment from which it counts; 1 January 1970 UTC by default, so that a restart does not shift it.

    The others, and errors, are those of ``cron``.
    """
    interval = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    return _declare(**_rule_options(locals()), every=interval, anchor=anchor)


def add(task: dramatiq.Actor[Any, Any], name: str, **options: Any) -> Schedule:
    """Add a schedule at run time, or change the one of this name. It lives in Redis until it is removed.

    Parameters:
      **options: ``cron`` (with ``timezone`` and ``twice``), ``every`` (a timedelta, with ``anchor``) or ``at`` (a list
        of moments), and those of ``fourlane.cron``.

    Raises:
      InvalidSchedule, RedisUnavailable
    """
    from fourlane.scheduler import manage

    try:
        schedule = _to_keep(task, _definition(task, _service_of(task), name, options))
    except (FourlaneError, TypeError, ValueError) as error:
        raise InvalidSchedule(f"schedule {name!r}: {error}") from None
    broker: Any = task.broker
    manage.put(broker.store, schedule)
    return schedule


# Declare ---------------------------------------------------------------------------------------------------


class _Declaration(NamedTuple):
    task: dramatiq.Actor[Any, Any]
    name: str
    options: dict[str, Any]
    module: str
    place: str


_declared: WeakKeyDictionary[Any, list[_Declaration]] = WeakKeyDictionary()
_COMMON: Final = frozenset(
    (
        "name", "args", "kwargs", "tier", "start", "end", "max_runs", "spread_seconds", "jitter_seconds", "catch_up",
        "catch_up_window_seconds", "overlap", "late_after_seconds",
    )
)  # fmt: skip


def _rule_options(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key in _COMMON}


def _declare(*, name: str | None, **options: Any) -> Callable[[T], T]:
    frame = sys._getframe(2)
    module = str(frame.f_globals.get("__name__", "__main__"))
    place = f"{module}, line {frame.f_lineno}"

    def declare(task: T) -> T:
        if not isinstance(task, dramatiq.Actor):
            raise InvalidSchedule(f"{place}: this is no task; put the schedule above @fourlane.task")
        called = name or task.actor_name
        options["place"], options["module"] = place, module
        try:
            _definition(task, getattr(task, "_service", None) or "default", called, options)
        except (FourlaneError, TypeError, ValueError) as error:
            raise InvalidSchedule(f"{place}: schedule {called!r}: {error}") from None
        known = _declared.setdefault(task.broker, [])
        service = getattr(task, "_service", None)
        for other in known:
            if other.name == called and getattr(other.task, "_service", None) == service:
                raise InvalidSchedule(
                    f"{place}: schedule {called!r} is declared already at {other.place}; give one of them another name"
                )
        known.append(_Declaration(task, called, options, module, place))
        return task

    return declare


def _definition(task: dramatiq.Actor[Any, Any], service: str, name: str, options: Mapping[str, Any]) -> Schedule:
    """The definition that options describe, checked."""
    from fourlane.scheduler.manage import check

    given = dict(options)
    args, kwargs = list(given.pop("args", ())), dict(given.pop("kwargs", None) or {})
    _fits(task, args, kwargs)
    fields: dict[str, Any] = {
        "name": name,
        "service": service,
        "task": task.actor_name,
        "args": args,
        "kwargs": kwargs,
        "tier": int(Tier.parse(given.pop("tier", Tier.P3))),
        "start_ms": _moment(given.pop("start", None), "start"),
        "end_ms": _moment(given.pop("end", None), "end"),
        "anchor_ms": _moment(given.pop("anchor", None), "anchor"),
        "at_ms": [_moment(at, "at") for at in given.pop("at", ())],
    }
    interval = given.pop("every", None)
    if interval is not None:
        fields["every_ms"] = _milliseconds(interval)
        if fields["every_ms"] < 1000:
            raise InvalidSchedule(f"an interval must be 1 second or longer, not {fields['every_ms'] / 1000:g} s")
    for word in ("spread", "jitter", "catch_up_window", "late_after"):
        if f"{word}_seconds" in given:
            fields[f"{word}_ms"] = round(given.pop(f"{word}_seconds") * 1000)
    unknown = set(given) - set(Schedule.__struct_fields__)
    if unknown:
        raise InvalidSchedule(f"unknown option(s) {', '.join(sorted(unknown))}")
    schedule = Schedule(**fields, **given)
    check(schedule)
    return schedule


def _fits(task: dramatiq.Actor[Any, Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    function = getattr(task, "original", task.fn)
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidSchedule(f"its arguments do not fit {task.actor_name}: {error}") from None


def _moment(moment: datetime | None, what: str) -> int:
    if moment is None:
        return 0
    if moment.tzinfo is None:
        raise InvalidSchedule(f"{what} needs a time zone, such as {moment.replace(tzinfo=UTC).isoformat()}")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _milliseconds(interval: timedelta) -> int:
    return interval // timedelta(milliseconds=1)


def _to_keep(task: dramatiq.Actor[Any, Any], schedule: Schedule) -> Schedule:
    """Not when it is declared: a program that is only imported needs no keys."""
    return sealed(schedule) if getattr(task, "encrypt", False) else schedule


def _service_of(task: dramatiq.Actor[Any, Any]) -> str:
    service = getattr(task, "service", None)
    if service is not None:
        return str(service)
    broker: Any = task.broker
    return str(broker.queue_of(task.queue_name).service)


# Tell Redis ------------------------------------------------------------------------------------------------


class _Module(msgspec.Struct):
    """What a module declared, and the boot of the deploy that said so."""

    boot_ms: int
    names: list[str]


def synchronise(broker: RedisBroker, boot_ms: int) -> None:
    """Make Redis know what this process's modules declare, and nothing that they declared once.

    Parameters:
      boot_ms: when the deploy began that this process belongs to; the youngest one's word counts.

    Raises:
      RedisUnavailable, InvalidSchedule
      EncryptionError: one is of an encrypted task, and there are no keys.
    """
    wanted: dict[str, dict[str, dict[str, Schedule]]] = {}
    for task, name, options, module, _ in _declared.get(broker, []):
        service = _service_of(task)
        schedule = _to_keep(task, _definition(task, service, name, options))
        wanted.setdefault(service, {}).setdefault(module, {})[name] = schedule
    for service in broker.store.services():
        wanted.setdefault(service, {})  # its last task may have gone with its schedules
    changed = [_synchronise(broker.store, service, modules, boot_ms) for service, modules in wanted.items()]
    if any(changed):
        schedules.tell(broker.store)


def synchronise_module(store: Store, service: str, module: str, wanted: Mapping[str, Schedule], boot_ms: int) -> None:
    """Make Redis know all that a module of Fourlane itself declares, by name; `synchronise` leaves those alone.

    Raises RedisUnavailable.
    """
    if _synchronise(store, service, {module: wanted}, boot_ms):
        schedules.tell(store)


def _synchronise(store: Store, service: str, modules: Mapping[str, Mapping[str, Schedule]], boot_ms: int) -> bool:
    if modules:
        store.announce(service)
    for _ in range(_TRIES):
        stored = schedules.declared(store, service)
        known = {module: msgspec.json.decode(text, type=_Module) for module, text in stored.items()}
        ours = [*modules, *(m for m in known if m not in modules and _is_ours(m))]
        older = [m for m in ours if m in known and known[m].boot_ms > boot_ms]
        if older:
            log.info("a younger deploy has declared the schedules of %s", ", ".join(older))
            ours = [m for m in ours if m not in older]
        if not ours:
            return False
        declared = []
        for module in ours:
            names = sorted(modules.get(module, ()))
            text = msgspec.json.encode(_Module(boot_ms, names)) if names else b""
            declared.append((module, stored.get(module, b""), text))
        writes = _writes(store, service, {m: modules.get(m, {}) for m in ours}, known)
        if schedules.write(store, service, writes, declared):
            return bool(writes)
    raise FourlaneError(f"the schedules of {service} change too fast to be written; try again")


def _writes(
    store: Store,
    service: str,
    ours: Mapping[str, Mapping[str, Schedule]],
    known: Mapping[str, _Module],
) -> list[Write]:
    from fourlane.scheduler.manage import written

    wanted = {name: schedule for of_module in ours.values() for name, schedule in of_module.items()}
    before = {name for module in ours if module in known for name in known[module].names}
    found = schedules.read(store, service, sorted(wanted.keys() | before))
    now_ms = schedules.now_ms(store, service)
    writes = []
    for name, schedule in wanted.items():
        old = found.get(name)
        if old is not None and old[0].module != schedule.module:
            log.warning("schedule=%s of %s gives way to %s", name, old[0].place or "run time", schedule.place)
        write = written(schedule, old, now_ms)
        if write is not None:
            log.info("%s schedule=%s service=%s", "changed" if old else "added", name, service)
            writes.append(write)
    for name in before - wanted.keys():
        if name in found and found[name][0].module in ours:
            log.info("removed schedule=%s service=%s: %s declares it no more", name, service, found[name][0].module)
            writes.append(Write(name, found[name][2], b""))
    return writes


def _is_ours(module: str) -> bool:
    """Whether this process knows all of a module's schedules: it has imported it, or it was deleted from a package
    that this process has."""
    if module.startswith("fourlane."):
        return False  # synchronise_module
    if module in sys.modules:
        return True
    if module.partition(".")[0] not in sys.modules:
        return False
    try:
        return importlib.util.find_spec(module) is None
    except (ImportError, ValueError):
        return True
