"""How long a process's place stays empty after its death."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["End", "pause_seconds"]

_STABLE_SECONDS: Final = 10.0
_FIRST_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 30.0
_LONGEST_SERVED_SECONDS: Final = 2.0


class End(NamedTuple):
    """How a process ended.

    Parameters:
      wanted: it had been asked to stop.
      guilty: jobs ran in it when it died. Each counts a crash, and the third makes it a dead letter.
      worked: it had finished jobs.
      served: it had its first good turn.
    """

    wanted: bool
    guilty: bool
    worked: bool
    served: bool
    lived_seconds: float


def pause_seconds(end: End, before: float) -> float:
    """Seconds until the next start. ``before`` is the pause that came before this process.

    A pause is for processes that die without ever doing work: an import that fails, a fault at the start. A job
    that kills its process is a dead letter soon, and all the others wait meanwhile.
    """
    if end.wanted or end.guilty or end.worked:
        return 0.0
    if end.served and end.lived_seconds >= _STABLE_SECONDS:
        return 0.0
    longest = _LONGEST_SERVED_SECONDS if end.served else _LONGEST_SECONDS
    return min(longest, max(_FIRST_SECONDS, before * 2))
