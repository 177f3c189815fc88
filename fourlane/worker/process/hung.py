"""When a worker process counts as hung: it takes no turn, though it runs and Redis answers."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["PROBE_AFTER", "Look", "quiet_seconds"]

PROBE_AFTER: Final = 0.5
"""The share of its patience after which a supervisor asks Redis whether it answers."""
_LONGEST_LOOK_SECONDS: Final = 2.0  # a supervisor that was itself stopped knows nothing of that time


class Look(NamedTuple):
    """What a supervisor sees of a process.

    Parameters:
      seconds: since the look before.
      turned: it has taken a turn meanwhile.
      ran: its interpreter ran other threads meanwhile.
      excused: Redis answers, and refuses what it asks: it can take no turn.
      busy: jobs run in it. One that holds the interpreter is the hard limit's business.
      stopped: by a signal.
      reached: Redis answered when it was last asked.
    """

    seconds: float
    turned: bool
    ran: bool
    excused: bool
    busy: bool
    stopped: bool
    reached: bool


def quiet_seconds(before: float, look: Look) -> float:
    """For how long it could have taken a turn, and has not."""
    if look.turned or look.excused or not look.reached:
        return 0.0
    if not look.ran and (look.busy or look.stopped):
        return before
    return before + min(look.seconds, _LONGEST_LOOK_SECONDS)
