"""When a schedule's times are: cron expressions, intervals, dates. Pure: (rule, after) → the next nominal time.

Times are milliseconds since the epoch. The only module that knows APScheduler, whose CronTrigger finds the next wall
clock time; its own reading of expressions (0 is Monday, AND between the days) and of clock changes is not used:

- A wall time in a gap (the clock jumps over it) is reached at the end of the gap: it fires once, there.
- A wall time that comes twice fires at the first of its moments, or at both when ``twice`` says so.
- Intervals and dates are moments, not wall times: no clock change touches them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

from fourlane.errors import InvalidSchedule

__all__ = ["Cron", "Dates", "Every", "Rule", "read_zone"]

MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS: Final = (
    ("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12),
    ("day of week", 0, 7),
)  # fmt: skip
_MONTHS: Final = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11,
    "dec": 12,
}  # fmt: skip
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTHS: Final = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_NTH: Final = ("1st", "2nd", "3rd", "4th", "5th")
_TERM: Final = re.compile(r"(\*|[0-9a-z]+)(?:-([0-9a-z]+))?(?:/([0-9]+))?")
_EPOCH: Final = datetime(1970, 1, 1)
_LATEST_MS: Final = 253_370_764_800_000  # the year 9999
_LONGEST_SHIFT_MS: Final = 26 * 3_600_000  # no clock change is longer


class Rule(Protocol):
    """What makes a schedule's times."""

    def next(self, after_ms: int) -> int | None:
        """The first time after this one; None when there is none."""


class Every:
    """Every so many milliseconds, counted from an anchor.

    Raises:
      InvalidSchedule: the interval is shorter than a second.
    """

    def __init__(self, every_ms: int, anchor_ms: int = 0) -> None:
        if every_ms < 1_000:
            raise InvalidSchedule(f"an interval must be 1 second or longer, not {every_ms / 1000:g} s")
        self.every_ms = every_ms
        self.anchor_ms = anchor_ms

    def next(self, after_ms: int) -> int | None:
        found = after_ms + self.every_ms - (after_ms - self.anchor_ms) % self.every_ms
        return found if found < _LATEST_MS else None


class Dates:
    """Single moments."""

    def __init__(self, at_ms: Sequence[int]) -> None:
        self.at_ms = sorted(at_ms)

    def next(self, after_ms: int) -> int | None:
        return next((moment for moment in self.at_ms if moment > after_ms), None)


class Cron:
    """A cron expression in a time zone.

    Parameters:
      expression: 5 fields (minute, hour, day of month, month, day of week), 6 with seconds before them, or ``@hourly``
        and the like. Lists, ranges, steps, names; ``L`` for a month's last day, ``5L`` for its last Friday, ``5#2``
        for its second. Sunday is 0 and 7. Where both days are restricted either suffices, as in every cron.
      timezone: an IANA name.
      twice: whether a wall time that comes twice fires twice. By default only in rules for every hour (``*``), which
        mean so many minutes rather than a time of day.

    Raises:
      InvalidSchedule: with the field and what is wrong in it; also for an expression that never fires.
    """

    def __init__(self, expression: str, timezone: str = "UTC", twice: bool | None = None) -> None:
        self._wall = _read(expression)
        self._zone = read_zone(timezone)
        self._fixed = timezone == "UTC"
        self.twice = self._wall.every_hour if twice is None else twice

    def next(self, after_ms: int) -> int | None:
        if self._fixed:
            wall = self._wall.next(_EPOCH + timedelta(milliseconds=after_ms))
            return None if wall is None else _ms(wall)
        return self._next_of_both(after_ms) if self.twice else self._next_of_first(after_ms)

    def _next_of_first(self, after_ms: int) -> int | None:
        """A wall time's moment is the first one at which clocks read it or later: that never runs backwards."""
        local = self._local(after_ms)
        reached = local.replace(tzinfo=None, fold=0)
        if local.fold:
            change = self._change(after_ms - _LONGEST_SHIFT_MS, after_ms, last=True)
            before = self._offset_ms(change - 1)
            reached = _EPOCH + timedelta(milliseconds=change + before - 1)
        wall = self._wall.next(reached)
        return None if wall is None else self._moment(wall)

    def _next_of_both(self, after_ms: int) -> int | None:
        local = self._local(after_ms)
        wall = self._wall.next(local.replace(tzinfo=None, fold=0))
        found = None
        if wall is not None:
            found = self._moment(wall)
            if found <= after_ms:  # its first moment is over, the second is to come
                found = self._moment(wall, fold=1)
        horizon = after_ms + _LONGEST_SHIFT_MS
        if found is not None:
            horizon = min(horizon, found)
        before = self._offset_ms(after_ms)
        if self._offset_ms(horizon) < before:  # the clock goes back before: wall times from there come again
            change = self._change(after_ms, horizon)
            again = self._wall.next(_EPOCH + timedelta(milliseconds=change + self._offset_ms(change) - 1))
            if again is not None:
                moment = self._moment(again, fold=1)
                found = moment if found is None else min(found, moment)
        return found

    def _local(self, moment_ms: int) -> datetime:
        return (_EPOCH + timedelta(milliseconds=moment_ms)).replace(tzinfo=UTC).astimezone(self._zone)

    def _offset_ms(self, moment_ms: int) -> int:
        offset = self._local(moment_ms).utcoffset()
        assert offset is not None
        return offset // timedelta(milliseconds=1)

    def _moment(self, wall: datetime, fold: int = 0) -> int:
        """When clocks read this, or the end of the gap that swallows it."""
        local = wall.replace(tzinfo=self._zone, fold=fold)
        offset = local.utcoffset()
        assert offset is not None
        moment = _ms(wall) - offset // timedelta(milliseconds=1)
        if self._offset_ms(moment) * timedelta(milliseconds=1) == offset:
            return moment
        return self._change(moment - _LONGEST_SHIFT_MS, moment, last=True)

    def _change(self, low_ms: int, high_ms: int, *, last: bool = False) -> int:
        """The first moment of the offset that holds at ``high_ms``, when it changes once after ``low_ms``.

        ``last`` narrows the search first, so that an earlier change is not taken for it.
        """
        offset = self._offset_ms(high_ms)
        if last:
            step = 1_800_000
            while high_ms - step > low_ms and self._offset_ms(high_ms - step) == offset:
                step *= 2
            low_ms = max(low_ms, high_ms - step)
        while high_ms - low_ms > 1:
            middle = (low_ms + high_ms) // 2
            if self._offset_ms(middle) == offset:
                high_ms = middle
            else:
                low_ms = middle
        return high_ms


def read_zone(name: str) -> ZoneInfo:
    """An IANA time zone. Raises InvalidSchedule."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidSchedule(f"{name!r} is no time zone; write an IANA name such as Europe/Berlin or UTC") from None


def _ms(wall: datetime) -> int:
    return (wall - _EPOCH) // timedelta(milliseconds=1)


# Cron expressions ------------------------------------------------------------------------------------------


class _Wall:
    """A cron expression on a clock that never changes."""

    def __init__(self, triggers: list[CronTrigger], every_hour: bool) -> None:
        self._triggers = triggers
        self.every_hour = every_hour
        self._known = (datetime.max, datetime.max)  # nothing lies between these two

    def next(self, after: datetime) -> datetime | None:
        before, following = self._known  # the same question comes from every schedule that has this expression
        if before <= after < following:
            return following
        found = self._search(after)
        if found is not None:
            self._known = (after, found)
        return found

    def _search(self, after: datetime) -> datetime | None:
        start = after.replace(microsecond=0, tzinfo=UTC) + timedelta(seconds=1)
        found = [t.get_next_fire_time(None, start) for t in self._triggers]
        times = [t for t in found if t is not None]
        return min(times).replace(tzinfo=None) if times else None


@lru_cache(4096)
def _read(expression: str) -> _Wall:
    """Translate an expression into CronTrigger's fields. Many schedules share few expressions: hence the cache."""
    text = expression.strip().lower()
    if text.startswith("@"):
        if text not in MACROS:
            raise InvalidSchedule(f"{expression!r} is not known; there are {', '.join(MACROS)}")
        text = MACROS[text]
    parts = text.split()
    if len(parts) == 5:
        parts.insert(0, "0")
    if len(parts) != 6:
        raise InvalidSchedule(
            f"{expression!r} has {len(parts)} fields; write 5 (minute, hour, day of month, month, day of week), or 6 "
            "with seconds before them"
        )

    def refuse(fault: str) -> InvalidSchedule:
        return InvalidSchedule(f"{expression!r}: {fault}")

    second, minute, hour, month = (_plain(parts[i], i, refuse) for i in (0, 1, 2, 4))
    common = {"year": "*", "second": second, "minute": minute, "hour": hour, "month": month, "timezone": UTC}
    day, month_days = _days_of_month(parts[3], refuse)
    weekdays, nth = _days_of_week(parts[5], refuse)
    both = parts[3].startswith("*") or parts[5].startswith("*")  # as in Vixie's cron: then both must match
    triggers: list[CronTrigger] = []
    if nth and both and parts[3] != "*":
        raise refuse("beside # or L among the days of the week the day of month must be *")
    if both:
        if weekdays:
            triggers.append(CronTrigger(day=day, day_of_week=weekdays, **common))
    else:
        triggers.append(CronTrigger(day=day, **common))
        if weekdays:
            triggers.append(CronTrigger(day_of_week=weekdays, **common))
    if nth:
        triggers.append(CronTrigger(day=nth, **common))
    months = [m for m in range(1, 13) if _matches(month, m)]
    if both and month_days and min(month_days) > max(_LONGEST_MONTHS[m] for m in months):
        raise refuse(f"it never fires: none of its months has a day {min(month_days)}")
    return _Wall(triggers, every_hour=parts[2] == "*")


def _matches(field: str, value: int) -> bool:
    for term in field.split(","):
        match = _TERM.fullmatch(term)
        assert match is not None
        step = int(match[3] or 1)
        first, last = (1, 12) if match[1] == "*" else (int(match[1]), int(match[2] or (12 if match[3] else match[1])))
        if first <= value <= last and (value - first) % step == 0:
            return True
    return False


_Refuse = Callable[[str], InvalidSchedule]


def _plain(text: str, index: int, refuse: _Refuse) -> str:
    return ",".join(_write(_range(term, index, refuse), index) for term in text.split(","))


def _days_of_month(text: str, refuse: _Refuse) -> tuple[str, list[int]]:
    """CronTrigger's words for the days, and the days themselves; none when ``L`` is among them."""
    written: list[str] = []
    days: list[int] = []
    for term in text.split(","):
        if term == "l":
            written.append("last")
        elif term.endswith("w"):
            raise refuse("W is not supported in the day of month")
        else:
            first, last, step = _range(term, 3, refuse)
            written.append(_write((first, last, step), 3))
            days += range(first, last + 1, step)
    return ",".join(written), [] if "last" in written else days


def _days_of_week(text: str, refuse: _Refuse) -> tuple[str, str]:
    """CronTrigger's words for the plain days of the week, and for those counted within the month."""
    days: set[int] = set()
    counted: list[str] = []
    for term in text.split(","):
        if "#" in term:
            name, _, nth = term.partition("#")
            if nth not in ("1", "2", "3", "4", "5"):
                raise refuse(f"{term!r}: after # write 1 to 5")
            counted.append(f"{_NTH[int(nth) - 1]} {_DAYS[_number(name, 5, refuse) % 7]}")
        elif term.endswith("l") and term not in _DAYS:
            if term == "l":
                raise refuse("L alone means nothing among the days of the week; write 5L for the last Friday")
            counted.append(f"last {_DAYS[_number(term[:-1], 5, refuse) % 7]}")
        else:
            first, last, step = _range(term, 5, refuse)
            days.update(day % 7 for day in range(first, last + 1, step))
    plain = "*" if len(days) == 7 else ",".join(_DAYS[day] for day in sorted(days))
    return plain, ",".join(counted)


def _range(term: str, index: int, refuse: _Refuse) -> tuple[int, int, int]:
    """First, last and step of ``*``, ``*/n``, ``a``, ``a-b``, ``a-b/n`` or ``a/n`` (from a to the end)."""
    name, low, high = _FIELDS[index]
    match = _TERM.fullmatch(term)
    if match is None or (match[1] == "*" and match[2]):
        raise refuse(f"{term!r} is no {name}")
    step = int(match[3] or 1)
    if step < 1:
        raise refuse(f"{term!r}: a step must be 1 or more")
    if match[1] == "*":
        return low, 6 if index == 5 else high, step
    first = _number(match[1], index, refuse)
    last = _number(match[2], index, refuse) if match[2] else high if match[3] else first
    if match[2] == "sun":
        last = 7
    if last < first:
        raise refuse(f"{term!r}: the {name} range runs backwards; write two, as in 22-23,0-2")
    return first, last, step


def _number(text: str, index: int, refuse: _Refuse) -> int:
    name, low, high = _FIELDS[index]
    if index == 4 and text in _MONTHS:
        return _MONTHS[text]
    if index == 5 and text in _DAYS:
        return _DAYS.index(text)
    if not text.isdigit():
        raise refuse(f"{text!r} is no {name}")
    number = int(text)
    if not low <= number <= high:
        raise refuse(f"{name} {number} is not within {low} to {high}")
    return number


def _write(numbers: tuple[int, int, int], index: int) -> str:
    first, last, step = numbers
    _, low, high = _FIELDS[index]
    if step > last - first:  # CronTrigger refuses steps that lead out of the range
        return str(first)
    if (first, last) == (low, high):
        return "*" if step == 1 else f"*/{step}"
    return f"{first}-{last}" if step == 1 else f"{first}-{last}/{step}"
