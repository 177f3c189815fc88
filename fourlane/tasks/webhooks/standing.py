"""How an endpoint stands: what its attempts say of it, and what follows for the line of its deliveries. Pure.

After 5 failures in a row its line is closed for 30 s, then one delivery at a time tries it; after 5 slow answers in a
row it gets one at a time too. The first that is neither ends both.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

__all__ = ["CLOSED_MS", "IN_A_ROW", "Attempted", "Order", "Standing", "is_over", "order", "stands"]

IN_A_ROW: Final = 5
CLOSED_MS: Final = 30_000


@dataclass(frozen=True, slots=True)
class Standing:
    """Attempts in a row that failed, and answers in a row that were slow."""

    failures: int = 0
    slow: int = 0

    @property
    def is_troubled(self) -> bool:
        return self.failures >= IN_A_ROW or self.slow >= IN_A_ROW


@dataclass(frozen=True, slots=True)
class Attempted:
    """What an attempt says of the endpoint.

    Parameters:
      was_taken: the webhook.
      took_ms: None: no answer came.
      after_ms: when the receiver asks to be called again.
    """

    was_taken: bool
    took_ms: float | None = None
    after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What the line is told.

    Parameters:
      close_ms: nothing begins for so long; 0: nothing of that.
      places: so many at once; 0: its own number again; None: as it is.
    """

    close_ms: int = 0
    places: int | None = None


def stands(before: Standing, attempted: Attempted, *, slow_ms: float) -> Standing:
    """How it stands after an attempt."""
    failures = 0 if attempted.was_taken else before.failures + 1
    if attempted.took_ms is None:
        return Standing(failures, before.slow)
    # No further: its row need not be written for each.
    return Standing(failures, min(before.slow + 1, IN_A_ROW) if attempted.took_ms > slow_ms else 0)


def order(before: Standing, now: Standing, attempted: Attempted, *, most: int, made_for: int) -> Order:
    """What follows for its line.

    Parameters:
      most: deliveries that the endpoint takes at once.
      made_for: how many it took when this delivery was made.
    """
    close_ms = CLOSED_MS if now.failures >= IN_A_ROW else 0
    if not attempted.was_taken and attempted.after_ms is not None:
        close_ms = max(close_ms, attempted.after_ms)
    if now.is_troubled:
        return Order(close_ms, 1)
    if made_for > most:  # others that were made then say so too
        return Order(close_ms, most)
    return Order(close_ms, 0 if before.is_troubled else None)


def is_over(failing_since: datetime, now: datetime, *, patience: timedelta) -> bool:
    """Whether an endpoint that took nothing for so long is disabled."""
    return now - failing_since >= patience
