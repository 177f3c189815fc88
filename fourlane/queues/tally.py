"""Jobs that are done, until Redis has counted them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from fourlane.outcome import Done, Outcome, Result, Stepped

__all__ = ["Tally"]

_UNTOLD_SECONDS: Final = 2.0


class Tally:
    """Counts by tier. What a call tells whose reply is lost is told again under its number, and counted once."""

    def __init__(self) -> None:
        self._done: dict[str, int] = {}
        self._number = 0
        self._untold: list[str] = []
        self._told_at = time.monotonic()

    def add(self, done: Iterable[str], others: Iterable[tuple[str, Outcome]] = ()) -> None:
        """These entries were settled; of the others only those count that are done."""
        for entry in done:
            self._done[entry[0]] = self._done.get(entry[0], 0) + 1
        for entry, outcome in others:
            plain = outcome.outcome if type(outcome) is Stepped else outcome
            if type(plain) in (Done, Result):
                self._done[entry[0]] = self._done.get(entry[0], 0) + 1

    def words(self) -> str:
        """What is to be counted, as the scripts take it (lua/parts/count_done.lua)."""
        if self._done:
            self._number += 1
            self._untold.append(f"{self._number};" + ",".join(f"{tier}:{count}" for tier, count in self._done.items()))
            self._done = {}
        return " ".join(self._untold)

    def told(self) -> None:
        """The words were heard."""
        self._untold.clear()
        self._told_at = time.monotonic()

    def is_due(self, now: float) -> bool:
        """It is time to tell, if there is anything; the process may die."""
        return now - self._told_at >= _UNTOLD_SECONDS
