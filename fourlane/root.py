"""The ground floor of a process: its settings, and each part that was made of them, once.

A part is made by a function of its own package, at the first call of ``root().part(make)``, and is the same for all who
ask from then on: one database pool, one publisher, one AI set-up. So whoever needs a part imports the package that has
it, and nothing has to know who puts all together (app.py).
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

if TYPE_CHECKING:
    from fourlane.config import Settings

__all__ = ["Root", "root"]

T = TypeVar("T")


class _Place:
    """Where a part stands, once it is made."""

    __slots__ = ("is_made", "lock", "part")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.is_made = False
        self.part: Any = None


class Root:
    """Settings and parts. Threads share it; a forked child keeps what was given and makes its own parts.

    Parameters:
      settings: else they are read when they are first asked for.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = settings
        self._given: dict[type, Any] = {}
        self._forget()

    def _forget(self) -> None:
        self._places: dict[Callable[[Root], Any], _Place] = {}
        self._closers: list[Callable[[], object]] = []
        self._lock = threading.RLock()

    @property
    def has_settings(self) -> bool:
        """Whether they were given, or read already."""
        return self._settings is not None

    @property
    def settings(self) -> Settings:
        """Raises SettingsError."""
        if self._settings is None:
            from fourlane.config import load_settings

            with self._lock:
                if self._settings is None:
                    self._settings = load_settings()
        return self._settings

    def part(self, make: Callable[[Root], T]) -> T:
        """What ``make`` makes, made at the first call; one that raises is called again the next time."""
        place = self._places.get(make)
        if place is None:
            with self._lock:
                place = self._places.setdefault(make, _Place())
        if not place.is_made:
            with place.lock:
                if not place.is_made:
                    place.part = make(self)
                    place.is_made = True
        return cast(T, place.part)

    def on_close(self, close: Callable[[], object]) -> None:
        """For those who make parts: to be called at the end."""
        self._closers.append(close)

    def close(self) -> None:
        """Close what was made, the last first. Whoever asks later has it made anew."""
        closers = self._closers
        self._forget()
        for close in reversed(closers):
            close()

    def give(self, kind: type[T], value: T | None) -> None:
        """Set what stands in the place of what the settings say: a worker's processes are handed an ``Opening``."""
        self._given[kind] = value

    def given(self, kind: type[T]) -> T | None:
        return cast("T | None", self._given.get(kind))

    def forked(self) -> None:
        """In a child: connections belong to the process that opened them."""
        self._forget()


_root: Final[list[Root]] = []
_lock = threading.Lock()


def root() -> Root:
    """That of this process; closed at its end."""
    if not _root:
        with _lock:
            if not _root:
                _root.append(Root())
    return _root[0]


def _close() -> None:
    for made in _root:
        made.close()


def _forked() -> None:
    for made in _root:
        made.forked()


atexit.register(_close)
os.register_at_fork(after_in_child=_forked)
