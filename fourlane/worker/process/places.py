"""The places of a worker's processes: who runs in each, and when the next one begins there."""

from __future__ import annotations

import logging
from collections.abc import Callable

from fourlane.worker.process.child import Child
from fourlane.worker.process.restart import End, pause_seconds

__all__ = ["Places"]

log = logging.getLogger("fourlane.supervisor")


class Places:
    """As many as there are to be processes. Each is taken, or empty until a time, or until the code changes.

    Parameters:
      start: starts a process for a place. Raises OSError.
    """

    def __init__(self, number: int, start: Callable[[int], Child]) -> None:
        self.children: list[Child] = []
        """Those that run; other threads may look."""
        self._number = number
        self._start = start
        self._start_at: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        self._broken: list[int] = []
        self._served = False

    def open(self) -> None:
        """All may be taken from now on."""
        self._start_at = dict.fromkeys(range(self._number), 0.0)

    def take(self, now: float) -> None:
        """Start a process in each place whose time has come."""
        for number, due in list(self._start_at.items()):
            if due <= now:
                del self._start_at[number]
                try:
                    self.children.append(self._start(number))
                except OSError as error:
                    unborn = End(wanted=False, guilty=False, worked=False, served=False, lived_seconds=0.0)
                    self.take_again(unborn, number, now, f"cannot be started ({error})")

    def leave(self) -> list[Child]:
        """Those that have ended, each taken from its place."""
        ended = [child for child in self.children if child.process.poll() is not None]
        for child in ended:
            self.children.remove(child)
            self._served = self._served or child.serves
        return ended

    def take_again(self, end: End, number: int, now: float, why: str = "ended early") -> None:
        """After its process ended so."""
        pause = self._pauses[number] = pause_seconds(end, self._pauses.get(number, 0.0))
        self._start_at[number] = now + pause
        if pause:
            log.warning("process %d %s; next start in %.1f s", number, why, pause)

    def wait_for_edit(self, number: int) -> None:
        """The code does not load: nobody begins there before it changes."""
        self._broken.append(number)
        log.warning("process %d waits for the next change of a .py file", number)

    def take_anew(self) -> None:
        """Those that are empty, at once, and as if nobody had died there."""
        for number in [*self._start_at, *self._broken]:
            self._start_at[number] = 0.0
        self._broken.clear()
        self._pauses.clear()

    def stop(self) -> None:
        """Nobody begins any more, and all end."""
        self._start_at.clear()
        for child in self.children:
            child.stop()

    def have_served(self) -> bool:
        """Whether any process ever did."""
        return self._served or any(child.serves for child in self.children)

    def all_serve(self) -> bool:
        """All that run."""
        return all(child.serves for child in self.children)

    def are_taken(self) -> bool:
        """By processes that serve, all of them."""
        return bool(self.children) and not self._start_at and not self._broken and self.all_serve()

    def are_changing(self) -> bool:
        """Whether one is empty, or has a process that does not serve yet or no longer."""
        changing = any(child.stopping_since or not child.serves for child in self.children)
        return bool(self._start_at or self._broken or changing)
