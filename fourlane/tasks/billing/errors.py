"""What reconciliation refuses."""

from __future__ import annotations

from fourlane.errors import FourlaneError

__all__ = ["InvalidPeriod", "RunTaken"]


class InvalidPeriod(FourlaneError, ValueError):
    """A period that cannot be reconciled."""


class RunTaken(FourlaneError):
    """Another process goes on with this run."""
