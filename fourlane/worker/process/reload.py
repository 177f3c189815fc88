"""New code: one process after the other ends and is started again, so that the others serve meanwhile."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from fourlane.worker.process.child import Child
from fourlane.worker.process.code_changes import CodeChanges
from fourlane.worker.process.places import Places

__all__ = ["Reload"]

log = logging.getLogger("fourlane.supervisor")

_LOOK_SECONDS: Final = 1.0


class Reload:
    """Begun by SIGHUP, or by a change of a .py file in the folder that is watched."""

    def __init__(self, places: Places, processes: int, folder: str) -> None:
        self._places = places
        self._processes = processes
        self._changes = CodeChanges(Path(folder)) if folder else None
        self._looked_at = 0.0
        self._left: list[Child] = []  # with old code

    @property
    def watches(self) -> bool:
        return self._changes is not None

    def look(self, now: float) -> str:
        """The file that has changed; empty when none has."""
        if self._changes is None or now - self._looked_at < _LOOK_SECONDS:
            return ""
        self._looked_at = now
        return next(iter(self._changes.changed()), "")

    def begin(self, why: str) -> None:
        log.info("reload: %s; restarting %d process(es) one by one", why, self._processes)
        self._left = list(self._places.children)
        self._places.take_anew()

    def go_on(self) -> None:
        """Stop the next one, once all the others serve."""
        self._left = [c for c in self._left if c in self._places.children and c.stopping_since is None]
        for child in self._left:
            if not child.serves:
                child.stop()  # no need to wait for old code that does not serve yet, and may never
        if self._left and not self._places.are_changing():
            self._left.pop(0).stop()

    def give_up(self) -> None:
        """What is left runs on."""
        self._left.clear()
