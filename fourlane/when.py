"""From when a job may run, as its sender says it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fourlane.errors import InvalidOption
from fourlane.options import check_delay

__all__ = ["When", "when_of"]


class When(NamedTuple):
    """Milliseconds from now, or since the epoch."""

    milliseconds: int
    since_epoch: bool

    def moment(self, now: datetime) -> datetime:
        after = timedelta(milliseconds=self.milliseconds)
        return (datetime.fromtimestamp(0, UTC) if self.since_epoch else now) + after

    def delay_ms(self, now_ms: int) -> int:
        return max(0, self.milliseconds - (now_ms if self.since_epoch else 0))


def when_of(delay: timedelta | int | None, eta: datetime | None = None) -> When | None:
    """None: at once. Raises InvalidOption."""
    if delay is not None and eta is not None:
        raise InvalidOption("give either delay or eta, not both")
    if eta is not None:
        return When(_since_epoch_ms(eta), True)
    if delay is None:
        return None
    milliseconds = _milliseconds(delay)
    return When(check_delay(milliseconds, "delay"), False) if milliseconds else None


def _since_epoch_ms(eta: datetime) -> int:
    if not isinstance(eta, datetime):
        raise InvalidOption(f"eta must be a datetime with a time zone, such as datetime.now(UTC), not {eta!r:.100}")
    if eta.tzinfo is None:
        raise InvalidOption(f"eta needs a time zone, such as {datetime.now(UTC).isoformat(timespec='seconds')}")
    return check_delay(max(0, int(eta.timestamp() * 1000)), "eta")


def _milliseconds(delay: timedelta | int) -> int:
    number = delay.total_seconds() * 1000 if isinstance(delay, timedelta) else delay
    if isinstance(number, int) or (isinstance(number, float) and math.isfinite(number)):
        return int(number)
    raise InvalidOption(f"delay must be a number of milliseconds or a timedelta, not {delay!r:.100}")
