"""What an operator is told whose change meets another's each time that it is tried."""

from __future__ import annotations

from fourlane.errors import FourlaneError

__all__ = ["too_busy"]


def too_busy(service: str) -> FourlaneError:
    return FourlaneError(f"the workers and limits of {service} change too fast to be read; try again")
