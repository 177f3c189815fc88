"""What to do with a schedule now: which nominal times fire, which were missed. Pure: no clock, no Redis.

A nominal time that is late by no more than ``GRACE_MS`` is not missed: it fires, whatever ``catch_up`` says, so that
the change of the leader or a quick restart loses nothing. Older ones are missed:

  none  they do not fire
  last  the last of them fires, unless a later time is to fire now anyway
  all   all of them fire, the oldest first

and whatever is older than the schedule's window does not. What does not fire leaves a line in the history.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple
from zlib import crc32

from fourlane.queues.schedules import Schedule, State
from fourlane.scheduler.rules import Cron, Dates, Every, Rule

__all__ = ["GRACE_MS", "Missed", "Nominal", "due_ms", "following", "next_look_ms", "plan", "rule_of"]

GRACE_MS: Final = 60_000
_RECHECK_MS: Final = 10_000  # a queued run, in case nobody told the end of the one before
_KEEP_FINISHED_MS: Final = 7 * 86_400_000
_AT_ONCE: Final = 100  # nominal times of one schedule; the next look has the others


class Nominal(NamedTuple):
    """A nominal time that fires. ``checks``: whether the job before it must have ended (overlap)."""

    nominal_ms: int
    due_ms: int
    next_ms: int
    checks: bool


class Missed(NamedTuple):
    """Nominal times that do not fire."""

    first_ms: int
    last_ms: int
    next_ms: int


@lru_cache(4096)
def _cron(expression: str, timezone: str, twice: bool | None) -> Cron:
    return Cron(expression, timezone, twice)


def rule_of(schedule: Schedule) -> Rule:
    """The rule of a schedule. Raises InvalidSchedule."""
    if schedule.cron:
        return _cron(schedule.cron, schedule.timezone, schedule.twice)
    if schedule.every_ms:
        return Every(schedule.every_ms, schedule.anchor_ms)
    return Dates(schedule.at_ms)


def following(schedule: Schedule, rule: Rule, after_ms: int) -> int:
    """The next nominal time between the schedule's start and end; 0 when there is none."""
    found = rule.next(max(after_ms, schedule.start_ms - 1))
    return 0 if found is None or (schedule.end_ms and found > schedule.end_ms) else found


def due_ms(schedule: Schedule, nominal_ms: int) -> int:
    """When a nominal time is acted upon: later by the schedule's spread, and by the jitter of this time.

    Both follow from names and times alone, so that every scheduler finds the same.
    """
    delay = 0
    if schedule.spread_ms:
        delay += crc32(schedule.name.encode()) % (schedule.spread_ms + 1)
    if schedule.jitter_ms:
        delay += crc32(f"{schedule.name} {nominal_ms}".encode()) % (schedule.jitter_ms + 1)
    return nominal_ms + delay


def next_look_ms(schedule: Schedule, state: State, now_ms: int) -> int:
    """When a scheduler has to look at a schedule in this state; 0: never."""
    if state.paused:
        return 0
    moments = [now_ms + _RECHECK_MS] if state.queued_ms else []
    if state.next_ms:
        moments.append(due_ms(schedule, state.next_ms))
    elif not schedule.module:
        moments.append(now_ms + _KEEP_FINISHED_MS)
    return min(moments, default=0)


def plan(schedule: Schedule, state: State, now_ms: int, ahead_ms: int = 0) -> list[Nominal | Missed]:
    """What to do with what is due by ``now_ms + ahead_ms``, in its order."""
    rule = rule_of(schedule)
    steps: list[Nominal | Missed] = []
    nominal, runs = state.next_ms, state.runs
    if nominal and due_ms(schedule, nominal) < now_ms - GRACE_MS:
        nominal = _catch_up(schedule, rule, state, now_ms, steps)
        runs += sum(isinstance(step, Nominal) for step in steps)
    while nominal and len(steps) < _AT_ONCE and not _is_spent(schedule, runs):
        due = due_ms(schedule, nominal)
        if due > now_ms + ahead_ms:
            break
        after = following(schedule, rule, nominal)
        steps.append(Nominal(nominal, due, after, checks=True))
        nominal, runs = after, runs + 1
    return steps


def _is_spent(schedule: Schedule, runs: int) -> bool:
    return bool(schedule.max_runs) and runs >= schedule.max_runs


def _catch_up(schedule: Schedule, rule: Rule, state: State, now_ms: int, steps: list[Nominal | Missed]) -> int:
    """Deal with what was missed; returns the nominal time to go on with. What is caught up is not delayed again."""
    nominal = state.next_ms
    timely = following(schedule, rule, now_ms - GRACE_MS - 1)
    oldest = max(nominal, now_ms - schedule.catch_up_window_ms)
    if schedule.catch_up == "all":
        first = nominal if nominal >= oldest else following(schedule, rule, oldest - 1)
        if first > nominal or not first:
            steps.append(Missed(nominal, _last_before(schedule, rule, nominal, first or oldest), first))
        runs = state.runs
        while first and first != timely and len(steps) < _AT_ONCE and not _is_spent(schedule, runs):
            after = following(schedule, rule, first)
            # Missed times are not weighed against each other: all were asked for.
            steps.append(Nominal(first, first, after, checks=False))
            first, runs = after, runs + 1
        return first
    last = _last_before(schedule, rule, nominal, timely or now_ms - GRACE_MS)
    fires_later = timely and due_ms(schedule, timely) <= now_ms
    if schedule.catch_up == "none" or fires_later or last < now_ms - schedule.catch_up_window_ms:
        steps.append(Missed(nominal, last, timely))
        return timely
    if last > nominal:
        steps.append(Missed(nominal, _last_before(schedule, rule, nominal, last), last))
    steps.append(Nominal(last, last, timely, checks=True))
    return timely


def _last_before(schedule: Schedule, rule: Rule, known_ms: int, before_ms: int) -> int:
    """The last nominal time before ``before_ms``, which is ``known_ms`` or later. Looks back in doubling steps, so
    that a year of a rule for every second costs no more than a minute of it."""
    back = 1_000
    while before_ms - back > known_ms:
        found = following(schedule, rule, before_ms - back - 1)
        if 0 < found < before_ms:
            known_ms = found
            break
        back *= 2
    while 0 < (after := following(schedule, rule, known_ms)) < before_ms:
        known_ms = after
    return known_ms
