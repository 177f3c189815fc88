"""Wakes the worker's loop when it waits for jobs to end, so that it leases more."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Refill"]


class Refill:
    """``waiting`` and ``low`` are the loop's to set (executor.py)."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.waiting = False
        self.low = 0
        self.wake = wake
