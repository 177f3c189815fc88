"""Connections kept for the next request to the same origin."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterator
from typing import Final

from fourlane.providers.http.network import Stream

__all__ = ["Idle"]

_MOST: Final = 100
# Node closes idle connections after 5 s. Ending ours earlier spares us the race in which a request is
# sent to a connection that is just being closed, which costs the job an attempt.
_SECONDS: Final = 4.0


class Idle:
    """Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Hashable, list[tuple[Stream, float]]] = {}
        self._number = 0

    def take(self, key: Hashable) -> Stream | None:
        """One that is fit for use, the last that was kept."""
        with self._lock:
            self._drop_old()
            while found := self._kept.get(key):
                stream, _ = found.pop()
                self._number -= 1
                if stream.is_silent():
                    return stream
                stream.close()
        return None

    def keep(self, key: Hashable, stream: Stream) -> None:
        with self._lock:
            self._drop_old()
            if self._number >= _MOST:
                stream.close()
                return
            self._kept.setdefault(key, []).append((stream, time.monotonic() + _SECONDS))
            self._number += 1

    def close(self) -> None:
        with self._lock:
            for stream in self._all():
                stream.close()
            self._kept.clear()
            self._number = 0

    def _all(self) -> Iterator[Stream]:
        return (stream for found in self._kept.values() for stream, _ in found)

    def _drop_old(self) -> None:
        now = time.monotonic()
        for key, found in list(self._kept.items()):
            while found and found[0][1] <= now:
                found.pop(0)[0].close()
                self._number -= 1
            if not found:
                del self._kept[key]
