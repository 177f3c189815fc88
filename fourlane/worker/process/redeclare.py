"""Has everything declared again that Redis lost: by this process what settings say, by the others what modules do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from fourlane.errors import FourlaneError
from fourlane.worker.process.places import Places

__all__ = ["Redeclare"]

_PATIENCE_SECONDS: Final = 30.0


class Redeclare:
    """For the keeper's thread. Processes are told the order's number, until they have carried it out.

    Parameters:
      declare: writes what settings declare.
    """

    def __init__(self, places: Places, declare: Callable[[], None] | None, hurry: Callable[[], None]) -> None:
        """``hurry`` has the list of workers written again: it is lost too."""
        self.order = 0
        """The last one."""
        self._places = places
        self._declare = declare
        self._hurry = hurry

    def __call__(self) -> None:
        """Returns when all is declared again."""
        self.order += 1
        self._hurry()
        if self._declare is not None:
            self._declare()
        patience = time.monotonic() + _PATIENCE_SECONDS
        while not all(child.declared >= self.order for child in list(self._places.children) if child.serves):
            if time.monotonic() > patience:
                raise FourlaneError(f"not every worker process has declared its own within {_PATIENCE_SECONDS:g} s")
            time.sleep(0.05)
