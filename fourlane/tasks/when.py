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


def when_of(delay: timedelta | int | None, eta: datetime | None) -> When | None:
    """None: at once.

    Raises:
      ValueError: both are given, or the moment has no time zone.
      InvalidOption: of the delay.
    """
    if delay is not None and eta is not None:
        raise ValueError("give either delay or eta, not both")
    if eta is not None:
        if eta.tzinfo is None:
            raise ValueError(f"eta needs a time zone, such as {datetime.now(UTC).isoformat(timespec='seconds')}")
        return When(max(0, int(eta.timestamp() * 1000)), True)
    if delay is None:
        return None
    if not isinstance(delay, (timedelta, int, float)) or not math.isfinite(
        delay.total_seconds() if isinstance(delay, timedelta) else delay
    ):
        raise InvalidOption(f"delay must be a number of milliseconds or a timedelta, not {delay!r}")
    milliseconds = int(delay.total_seconds() * 1000) if isinstance(delay, timedelta) else int(delay)
    return When(check_delay(milliseconds, "delay"), False) if milliseconds else None
