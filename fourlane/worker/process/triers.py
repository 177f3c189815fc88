"""Which of a worker's processes may try suspects now. One that tries may die, and the others' jobs go on meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["MOST_ESCAPES", "Place", "escapes_of_late", "is_wary", "triers"]

MOST_ESCAPES: Final = 5  # more make trials no longer
_TURN_SECONDS: Final = 0.5
_DOWN_SECONDS: Final = 5.0  # a place that stays empty for longer does not keep suspects waiting
_WARY_SECONDS: Final = 10.0
_WARY_DEATHS: Final = 2
_LATE_SECONDS: Final = 3_600.0


class Place(NamedTuple):
    """Where one process runs, or will again.

    Parameters:
      serves_since: on the monotonic clock; 0: none serves there now.
      start_seconds: how long the start of the present one took.
      died_at: the last death of one there; 0: none.
    """

    serves_since: float
    start_seconds: float
    died_at: float


def triers(places: Sequence[Place], now: float) -> set[int]:
    """The places that may try: at most half of them are down or try, and they take turns.

    The only one that serves has worked for others first, for as long as its start took.
    """
    serving = [number for number, place in enumerate(places) if place.serves_since]
    down = sum(not place.serves_since and now - place.died_at < _DOWN_SECONDS for place in places if place.died_at)
    if len(serving) == 1:
        place = places[serving[0]]
        if now - place.serves_since < place.start_seconds:
            return set()
    room = min(len(serving), max(1, len(places) // 2) - down)
    first = int(now / _TURN_SECONDS) * max(1, room)
    return {serving[(first + step) % len(serving)] for step in range(room)}


def is_wary(deaths: Sequence[float], now: float) -> bool:
    """Whether processes die one after the other: then whoever ran in one of them is a suspect at once."""
    return sum(now - at < _WARY_SECONDS for at in deaths) >= _WARY_DEATHS


def escapes_of_late(escapes: Sequence[float], now: float) -> int:
    """How many processes died after the trials in them: so much longer are the next ones."""
    return sum(now - at < _LATE_SECONDS for at in escapes)
