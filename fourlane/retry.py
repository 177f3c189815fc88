"""When a failed job is tried again: the rule. Pure: no store, no thread, no clock of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import dramatiq.errors

__all__ = ["LONGEST_MS", "Backoff", "Policy", "is_expected"]

LONGEST_MS: Final = 315_360_000_000
"""Ten years: the longest limit, backoff and time to keep a result."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next attempt: ``min_ms``, doubled each time, never over ``max_ms``.

    With ``jitter`` (full jitter) the wait is drawn evenly between 0 and that, so that jobs which failed together
    do not come back together.
    """

    min_ms: int = 1_000
    max_ms: int = 3_600_000
    jitter: bool = True

    def __post_init__(self) -> None:
        for name in ("min_ms", "max_ms"):
            value = getattr(self, name)
            if type(value) not in (int, float):
                raise TypeError(f"backoff's {name} is a number of milliseconds, not {value!r}")
        if not 0 <= self.min_ms <= self.max_ms <= LONGEST_MS:
            given = f"{self.min_ms} and {self.max_ms}"
            raise ValueError(f"backoff needs 0 <= min_ms <= max_ms <= {LONGEST_MS:,} (ten years), not {given}")

    def delay_ms(self, attempt: int, draw: Callable[[], float] = random.random) -> int:
        """The wait after the attempt of this number, 1 or more."""
        longest = min(self.max_ms, self.min_ms * 2 ** min(attempt - 1, 62))
        return int(longest * draw()) if self.jitter else int(longest)


@dataclass(frozen=True, slots=True)
class Policy:
    """When a task's job is retried."""

    max_retries: int | None = 5
    backoff: Backoff = Backoff()
    throws: tuple[type[BaseException], ...] = ()
    retry_when: Callable[[int, BaseException], bool] | None = None

    def with_options(self, options: Mapping[str, Any]) -> Policy:
        """As changed by the options that one job was sent with: ``max_retries``, ``min_backoff``, ``max_backoff``."""
        if "max_retries" in options:
            # How often, said for this one job, comes before the task's own way to decide.
            changed = replace(self, max_retries=options["max_retries"], retry_when=None)
        else:
            changed = self
        if "min_backoff" in options or "max_backoff" in options:
            least = int(min(LONGEST_MS, options.get("min_backoff", self.backoff.min_ms)))
            most = int(min(LONGEST_MS, options.get("max_backoff", max(least, self.backoff.max_ms))))
            changed = replace(changed, backoff=Backoff(min(least, most), most, self.backoff.jitter))
        return changed

    def again_in_ms(self, error: BaseException, attempt: int) -> int | None:
        """How long after the attempt of this number (1 is the first) failed so the next one comes; None: never."""
        if self.throws and isinstance(error, self.throws):
            return None
        if self.retry_when is not None:
            again = self.retry_when(attempt - 1, error)
        else:
            again = self.max_retries is None or attempt <= self.max_retries
        if not again:
            return None
        if isinstance(error, dramatiq.errors.Retry) and error.delay is not None:
            return int(error.delay)
        return self.backoff.delay_ms(attempt)


def is_expected(error: BaseException, throws: Any) -> bool:
    """An error that a program raises on purpose, to be tried again later or not at all: nobody need be told of it."""
    steers = isinstance(error, (dramatiq.errors.Retry, dramatiq.errors.RateLimitExceeded))
    return steers or bool(throws and isinstance(error, throws))
