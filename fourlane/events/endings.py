"""What becomes of a message when its handlers have had it. Rules without side effects; direct.py acts on them.

What one handler's end means is decided as for jobs (worker/run/decide.py); here several become one, as SQS can keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from fourlane.errors import InvalidEvent, Reject
from fourlane.events.aws import LONGEST_VISIBILITY_SECONDS
from fourlane.events.provision import RETENTION_SECONDS
from fourlane.retry import Backoff, Policy
from fourlane.worker.run.decide import End, Verdict, decide

__all__ = ["BACKOFF", "HANDLED", "MAX_FAILURES", "Again", "Bury", "Ending", "Handled", "as_kept", "judge", "together"]

MAX_FAILURES: Final = 5
BACKOFF: Final = Backoff(4_000, 900_000, jitter=False)
_LAST_HOUR_SECONDS: Final = 3_600
_NO_LONGER_KEPT: Final = "its queue keeps it no longer, and it is not handled yet"


@dataclass(frozen=True, slots=True)
class Handled:
    """It is deleted."""


@dataclass(frozen=True, slots=True)
class Again:
    """It is received again, after so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Bury:
    """It can never be handled, and goes to the dead letters."""

    reason: str


Ending: TypeAlias = Handled | Again | Bury
HANDLED: Final = Handled()


def judge(error: BaseException | None, failures: int, told: str, most: int, backoff: Backoff) -> Verdict:
    """What the end of a handler's run means.

    Parameters:
      failures: how often it failed before.
      told: why its cancel token was set, where it was.
      most: failures that are allowed.
    """
    policy = Policy(max_retries=most - 1, backoff=backoff)
    return decide(End(error, failures + 1, policy, told=told, rejects=(InvalidEvent, Reject)))


def together(endings: Sequence[Ending]) -> Ending:
    """Of all its handlers. What has ended otherwise is told when the others have ended too."""
    again = [ending for ending in endings if isinstance(ending, Again)]
    if again:
        return min(again, key=lambda each: each.seconds)
    return next((ending for ending in endings if isinstance(ending, Bury)), HANDLED)


def as_kept(ending: Ending, *, taken_for: float, sent_ms: int, now_ms: float) -> Ending:
    """What SQS can do of it, which hides a message for hours at most, and keeps it for days.

    Parameters:
      taken_for: seconds since it was received.
      sent_ms: when it was sent; 0 where that is not known.
    """
    if not isinstance(ending, Again):
        return ending
    last_ms = sent_ms + (RETENTION_SECONDS - _LAST_HOUR_SECONDS) * 1000
    if sent_ms and now_ms + ending.seconds * 1000 > last_ms:
        return Bury(_NO_LONGER_KEPT)
    return Again(round(min(ending.seconds, LONGEST_VISIBILITY_SECONDS - 1 - taken_for)))
