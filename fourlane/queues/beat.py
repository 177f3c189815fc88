"""How often Redis hears of a worker, and what silence means."""

from __future__ import annotations

from typing import Final

__all__ = ["BEAT_SECONDS", "NEXT_LOOK_SECONDS", "SILENCE_MS", "idle_look_seconds"]

BEAT_SECONDS: Final = 1.5
"""Between two beats, while jobs are held."""
SILENCE_MS: Final = 5_000
"""After so long a worker that holds jobs counts as dead."""
NEXT_LOOK_SECONDS: Final = 20.0
"""Between two looks of an idle worker at any of its services: three a minute, at 11 commands each."""


def idle_look_seconds(services: int) -> float:
    """Between two looks of an idle worker at one of its services: with many, it looks at one after the other."""
    return max(25.0, NEXT_LOOK_SECONDS * services)
