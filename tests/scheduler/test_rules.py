"""Times of rules: cron expressions against cronsim, clock changes in every zone against brute force."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st

from fourlane.errors import InvalidSchedule
from fourlane.scheduler.rules import MACROS, Cron, Dates, Every, read_zone

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = 60_000
HOUR = 60 * MINUTE
ZONES = sorted(available_timezones())


def ms(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


def times(rule: Cron | Every | Dates, after: int, count: int) -> list[str]:
    found = []
    for _ in range(count):
        following = rule.next(after)
        if following is None:
            break
        assert following > after
        after = following
        found.append((EPOCH + timedelta(milliseconds=after)).isoformat().removesuffix("+00:00"))
    return found


# Expressions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 3 * * *", ["2026-01-01T03:00:00", "2026-01-02T03:00:00"]),
        ("*/20 * * * * *", ["2026-01-01T00:00:20", "2026-01-01T00:00:40"]),  # six fields: seconds first
        ("0 0 * * 0", ["2026-01-04T00:00:00", "2026-01-11T00:00:00"]),  # 0 is Sunday
        ("0 0 * * 7", ["2026-01-04T00:00:00", "2026-01-11T00:00:00"]),  # and so is 7
        ("0 0 * * mon", ["2026-01-05T00:00:00", "2026-01-12T00:00:00"]),
        ("0 0 * * FRI-SUN", ["2026-01-02T00:00:00", "2026-01-03T00:00:00"]),
        ("0 0 1 feb,APR *", ["2026-02-01T00:00:00", "2026-04-01T00:00:00"]),
        ("0 0 13 * 5", ["2026-01-02T00:00:00", "2026-01-09T00:00:00", "2026-01-13T00:00:00"]),  # either day
        ("0 0 */2 * 5", ["2026-01-09T00:00:00", "2026-01-23T00:00:00"]),  # a star: both
        ("0 0 L * *", ["2026-01-31T00:00:00", "2026-02-28T00:00:00"]),
        ("0 0 * * 5L", ["2026-01-30T00:00:00", "2026-02-27T00:00:00"]),
        ("0 0 * * 5#2", ["2026-01-09T00:00:00", "2026-02-13T00:00:00"]),
        ("0 0 * * 1,5#2", ["2026-01-05T00:00:00", "2026-01-09T00:00:00", "2026-01-12T00:00:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00:00", "2032-02-29T00:00:00"]),
        ("7/20 0 * * *", ["2026-01-01T00:07:00", "2026-01-01T00:27:00", "2026-01-01T00:47:00"]),
        ("0-5/10 0 * * *", ["2026-01-02T00:00:00"]),  # a step past the range leaves its start
        ("@hourly", ["2026-01-01T01:00:00", "2026-01-01T02:00:00"]),
        ("@weekly", ["2026-01-04T00:00:00"]),
        ("@yearly", ["2027-01-01T00:00:00"]),
    ],
)
def test_expressions(expression: str, expected: list[str]) -> None:
    assert times(Cron(expression), ms("2026-01-01T00:00:00+00:00"), len(expected)) == expected


def test_a_time_is_not_its_own_successor() -> None:
    rule = Cron("0 3 * * *")
    at = ms("2026-01-01T03:00:00+00:00")
    assert rule.next(at - 1) == at
    assert rule.next(at) == at + 24 * HOUR


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("60 * * * *", "minute 60 is not within 0 to 59"),
        ("* * * * 8", "day of week 8"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31 4,6,9,11 *", "never fires"),
        ("0 0 0 30 feb *", "never fires"),
        ("* * *", "3 fields"),
        ("* * * * * * *", "7 fields"),
        ("", "0 fields"),
        ("5-1 * * * *", "backwards"),
        ("*/0 * * * *", "step"),
        ("a * * * *", "'a' is no minute"),
        ("0 0 , * *", "is no day of month"),
        ("0 0 15W * *", "W is not supported"),
        ("0 0 * * L", "5L"),
        ("0 0 * * 5#6", "1 to 5"),
        ("0 0 */2 * 5#2", "must be *"),
        ("@reboot", "is not known"),
        ("sun * * * *", "'sun' is no minute"),
    ],
)
def test_refused_expressions(expression: str, reason: str) -> None:
    with pytest.raises(InvalidSchedule, match=reason.replace("*", r"\*")):
        Cron(expression)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "/etc/localtime", "Europe"])
def test_refused_zones(name: str) -> None:
    with pytest.raises(InvalidSchedule, match="IANA"):
        read_zone(name)


def test_every_macro_is_an_expression() -> None:
    assert all(Cron(name).next(0) for name in MACROS)


def _field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    pair = st.tuples(number, number).filter(lambda p: p[0] < p[1])
    term = st.one_of(
        number.map(str),
        pair.map(lambda p: f"{p[0]}-{p[1]}"),
        st.tuples(pair, st.integers(1, 9)).map(lambda x: f"{x[0][0]}-{x[0][1]}/{x[1]}"),
        st.integers(1, 20).map(lambda n: f"*/{n}"),
        st.tuples(number, st.integers(1, 20)).map(lambda x: f"{x[0]}/{x[1]}"),
    )
    return st.one_of(st.just("*"), st.lists(term, min_size=1, max_size=3).map(",".join))


EXPRESSIONS = st.tuples(
    st.one_of(st.just(""), _field(0, 59)),
    _field(0, 59),
    _field(0, 23),
    st.one_of(_field(1, 31), st.just("L")),
    _field(1, 12),
    st.one_of(_field(0, 6), st.sampled_from(["5#2", "0#1", "1L", "0L,3", "mon-fri", "5-7", "1#5", "tue"])),
).map(lambda fields: " ".join(fields).strip())


@settings(max_examples=700, deadline=None)
@given(EXPRESSIONS, st.integers(0, 20 * 365 * 86_400))
def test_expressions_mean_what_cronsim_says(expression: str, seconds: int) -> None:
    start = datetime(2020, 1, 1) + timedelta(seconds=seconds)
    try:
        expected = next(CronSim(expression, start), None)
    except CronSimError:
        expected = None
    try:
        found = Cron(expression).next((start.replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1))
    except InvalidSchedule as error:
        if "must be *" in str(error):
            return  # both days restricted by stars and counts: the only thing that cronsim knows and we refuse
        found = None
    assert found == (None if expected is None else (expected.replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1))


# Clock changes ---------------------------------------------------------------------------------------------


BERLIN = [
    # expression, twice, from, expected: clocks go 02:00 → 03:00 on 29 March (01:00 UTC)
    ("30 2 * * *", None, "2026-03-28T12:00:00", ["2026-03-29T01:00:00", "2026-03-30T00:30:00"]),
    ("0,30 2 * * *", None, "2026-03-28T12:00:00", ["2026-03-29T01:00:00", "2026-03-30T00:00:00"]),
    ("0 3 * * *", None, "2026-03-28T12:00:00", ["2026-03-29T01:00:00", "2026-03-30T01:00:00"]),
    ("30 * * * *", None, "2026-03-29T00:00:00", ["2026-03-29T00:30:00", "2026-03-29T01:00:00", "2026-03-29T01:30:00"]),
    # and 03:00 → 02:00 on 25 October (01:00 UTC)
    ("30 2 * * *", None, "2026-10-24T12:00:00", ["2026-10-25T00:30:00", "2026-10-26T01:30:00"]),
    ("30 2 * * *", True, "2026-10-24T12:00:00", ["2026-10-25T00:30:00", "2026-10-25T01:30:00", "2026-10-26T01:30:00"]),
    ("0 3 * * *", None, "2026-10-24T12:00:00", ["2026-10-25T02:00:00", "2026-10-26T02:00:00"]),
    ("0 2 * * *", True, "2026-10-24T12:00:00", ["2026-10-25T00:00:00", "2026-10-25T01:00:00", "2026-10-26T01:00:00"]),
    ("0 * * * *", None, "2026-10-24T23:30:00", ["2026-10-25T00:00:00", "2026-10-25T01:00:00", "2026-10-25T02:00:00"]),
    ("0 * * * *", False, "2026-10-24T23:30:00", ["2026-10-25T00:00:00", "2026-10-25T02:00:00"]),
    # asked in the middle of the second pass
    ("15,45 2 * * *", None, "2026-10-25T01:20:00", ["2026-10-26T01:15:00"]),
    ("15,45 2 * * *", True, "2026-10-25T01:20:00", ["2026-10-25T01:45:00", "2026-10-26T01:15:00"]),
]


@pytest.mark.parametrize(("expression", "twice", "after", "expected"), BERLIN)
def test_clock_changes_in_berlin(expression: str, twice: bool | None, after: str, expected: list[str]) -> None:
    rule = Cron(expression, "Europe/Berlin", twice)
    assert times(rule, ms(after + "+00:00"), len(expected)) == expected


def _changes(zone: ZoneInfo, start: int, end: int) -> list[int]:
    """The moments at which a zone's offset changes, found in steps of 10 days (no zone goes there and back in so few),
    then by halving."""

    def offset(moment: int) -> timedelta | None:
        return datetime.fromtimestamp(moment / 1000, zone).utcoffset()

    found = []
    step = 10 * 24 * HOUR
    days = [(day, offset(day)) for day in range(start, end + step, step)]
    for (day, before), (_, after) in itertools.pairwise(days):
        if before != after:
            low, high = day, day + step
            while high - low > 1000:
                middle = (low + high) // 2000 * 1000
                low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
            found.append(high)
    return found


def _minutes(zone: ZoneInfo, start: int, end: int) -> list[tuple[int, list[tuple[datetime, bool]]]]:
    """Look at the clock every minute: what it reached, each with whether that was for the first time. What it jumps
    over counts as reached when it has jumped."""
    steps = []
    wall = (EPOCH + timedelta(milliseconds=start)).astimezone(zone).replace(tzinfo=None)
    highest = wall
    moment = start
    while moment < end:
        moment += MINUTE
        before, wall = wall, (EPOCH + timedelta(milliseconds=moment)).astimezone(zone).replace(tzinfo=None)
        reached = []
        minute = before + timedelta(minutes=1)
        while minute <= wall:  # one step, or a gap
            reached.append(minute)
            minute += timedelta(minutes=1)
        if wall <= before:
            reached.append(wall)
        steps.append((moment, [(w, w > highest) for w in reached]))
        highest = max(highest, wall)
    return steps


@pytest.mark.parametrize("first", range(0, len(ZONES), 60))
def test_every_zone_by_brute_force(first: int) -> None:
    """Around every clock change from 1990 to 2037 of 60 zones: a few rules, minute by minute."""
    rng = random.Random(first)
    for name in ZONES[first : first + 60]:
        zone = ZoneInfo(name)
        changes = _changes(zone, ms("1990-01-01T00:00:00+00:00"), ms("2037-12-31T00:00:00+00:00"))
        for change in rng.sample(changes, min(1, len(changes))):
            start, end = change // MINUTE * MINUTE - 3 * HOUR, change // MINUTE * MINUTE + 4 * HOUR
            local = (EPOCH + timedelta(milliseconds=change)).astimezone(zone)
            hour = (local.hour + rng.choice([-2, -1, 0, 1])) % 24
            minutes = sorted(rng.sample(range(60), rng.choice([1, 2, 12])))
            steps = _minutes(zone, start, end)
            for hours, field in (([hour], str(hour)), (range(24), "*"), ([0], "0")):
                for twice in (False, True):
                    rule = Cron(f"{','.join(map(str, minutes))} {field} * * *", name, twice)
                    matches = {(h, m) for h in hours for m in minutes}
                    expected = [
                        moment
                        for moment, reached in steps
                        if any((w.hour, w.minute) in matches and (twice or first) for w, first in reached)
                    ]
                    found = []
                    after: int | None = start
                    while (after := rule.next(after)) is not None and after <= end:  # type: ignore[arg-type]
                        found.append(after)
                    assert found == expected, (name, rule, field, minutes, twice, change)


@pytest.mark.parametrize(
    ("zone", "expression", "after", "expected"),
    [
        # A whole day that never was: its times fire once, when it has been skipped.
        ("Pacific/Apia", "0 12 30 12 *", "2011-12-01T00:00:00", ["2011-12-30T10:00:00", "2012-12-29T22:00:00"]),
        # Half an hour: Lord Howe goes 02:00 → 02:30.
        ("Australia/Lord_Howe", "15 2 * * *", "2025-10-04T00:00:00", ["2025-10-04T15:30:00", "2025-10-05T15:15:00"]),
        # At midnight: Beirut's day begins at 01:00.
        ("Asia/Beirut", "0 0 * * *", "2025-03-29T12:00:00", ["2025-03-29T22:00:00", "2025-03-30T21:00:00"]),
    ],
)
def test_rare_changes(zone: str, expression: str, after: str, expected: list[str]) -> None:
    assert times(Cron(expression, zone), ms(after + "+00:00"), len(expected)) == expected


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, st.sampled_from(ZONES), st.booleans(), st.integers(0, 50 * 365 * 86_400))
def test_times_only_increase(expression: str, zone: str, twice: bool, seconds: int) -> None:
    try:
        rule = Cron(expression, zone, twice)
    except InvalidSchedule:
        return
    after: int | None = seconds * 1000
    for _ in range(20):
        assert after is not None
        following = rule.next(after)
        if following is None:
            return
        assert following > after
        # Nothing lies between: asked from in between, the answer is the same.
        assert rule.next((after + following) // 2) == following
        after = following


# Intervals and dates ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1_000, 10**9), st.integers(0, 2 * 10**12), st.integers(0, 2 * 10**12))
def test_intervals_are_counted_from_their_anchor(every: int, anchor: int, after: int) -> None:
    following = Every(every, anchor).next(after)
    assert following is not None
    assert after < following <= after + every
    assert (following - anchor) % every == 0


def test_an_interval_must_be_a_second() -> None:
    with pytest.raises(InvalidSchedule, match="1 second"):
        Every(999)


def test_dates_come_in_order_and_end() -> None:
    rule = Dates([3_000, 1_000, 2_000])
    assert times(rule, 1_000, 5) == ["1970-01-01T00:00:02", "1970-01-01T00:00:03"]
