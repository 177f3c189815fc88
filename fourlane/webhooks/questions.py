"""How many calls of ours strangers may cause: requests that nobody has proved yet to be genuine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fourlane.webhooks.address import neighbours
from fourlane.webhooks.rate import Rates
from fourlane.webhooks.refused import Refused, Unverifiable

__all__ = ["Questions"]

_AT_ONCE: Final = 4
_PATIENCE_SECONDS: Final = 0.5


class Questions:
    """A minute's share for all, and a smaller one for each sender, so that one alone does not use it up."""

    def __init__(self, *, in_all: int, of_one: int) -> None:
        self._in_all = Rates(in_all)
        self._of_one = Rates(of_one)
        self._places = threading.BoundedSemaphore(_AT_ONCE)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Few wait for PayPal at once: the threads are for others too. Raises Unverifiable: there are that many."""
        if not self._places.acquire(timeout=_PATIENCE_SECONDS):
            raise Unverifiable("PayPal is being asked too much at once")
        try:
            yield
        finally:
            self._places.release()

    def spend(self, address: str) -> None:
        """Count a call. Raises Refused: there were too many."""
        wait_seconds = self._of_one.wait(neighbours(address)) or self._in_all.wait("")
        if wait_seconds:
            raise Refused("rate", "too much was asked of PayPal for nothing", after_seconds=wait_seconds)

    def give_back(self, address: str) -> None:
        """The last call was for a genuine request."""
        self._of_one.give_back(neighbours(address))
        self._in_all.give_back("")
