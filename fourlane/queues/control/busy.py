"""A change of an operator's that meets another's each time that it is tried."""

from __future__ import annotations

from typing import Final

from fourlane.errors import FourlaneError

__all__ = ["TRIES", "too_busy"]

TRIES: Final = 50


def too_busy(service: str) -> FourlaneError:
    return FourlaneError(f"the workers and limits of {service} change too fast to be read; try again")
