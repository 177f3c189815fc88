"""Which preference counts, when a person's quiet hours end, when a limit has room again. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Protocol, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["free_at", "is_time_of_day", "is_zone", "quiet_until", "that_counts"]


class _Preference(Protocol):
    @property
    def category(self) -> str: ...
    @property
    def tenant(self) -> str: ...


P = TypeVar("P", bound=_Preference)


def that_counts(preferences: Iterable[P], category: str) -> P | None:
    """The preference of this category, else the one of all (``*``); of two the tenant's own, else the one for all."""
    # False comes before True: what is about less comes first.
    about = [one for one in preferences if one.category in (category, "*")]
    return min(about, key=lambda one: (one.category != category, one.tenant == ""), default=None)


def quiet_until(now: datetime, zone: str, start: str | None, end: str | None) -> datetime | None:
    """When the quiet hours that hold now are over; None when there are none now.

    Parameters:
      now: with a time zone.
      zone: the person's, e.g. ``Europe/Vienna``; one that nobody knows counts as UTC.
      start, end: HH:MM on the person's clock; ``22:00`` to ``07:00`` goes over midnight. Equal ones are no hours.
    """
    if not is_time_of_day(start) or not is_time_of_day(end) or start == end:
        return None
    assert start is not None
    assert end is not None
    local = now.astimezone(ZoneInfo(zone) if is_zone(zone) else UTC)
    begins, ends, clock = time.fromisoformat(start), time.fromisoformat(end), local.time().replace(fold=0)
    within = begins <= clock < ends if begins < ends else clock >= begins or clock < ends
    if not within:
        return None
    day = local.date() if clock < ends else local.date() + timedelta(days=1)
    moment = datetime.combine(day, ends, local.tzinfo)
    if moment.astimezone(UTC) <= now:  # an hour that the clocks go through twice, and this is the second time
        moment = moment.replace(fold=1)
    return moment.astimezone(UTC)


def is_time_of_day(text: str | None) -> bool:
    """Whether it is HH:MM."""
    if text is None or len(text) != 5:
        return False
    try:
        time.fromisoformat(text)
    except ValueError:
        return False
    return text[2] == ":"


def is_zone(name: str) -> bool:
    """Whether it is a time zone that this machine knows."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def free_at(sent: Sequence[datetime], rate: int, per_ms: int) -> datetime | None:
    """When one more may be sent.

    Parameters:
      sent: when those of the last ``per_ms`` milliseconds were sent, oldest first.

    Returns None for now.
    """
    return sent[len(sent) - rate] + timedelta(milliseconds=per_ms) if len(sent) >= rate else None
