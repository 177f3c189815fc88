"""When requests are submitted, looked at and given up. Pure."""

from __future__ import annotations

import hashlib
from typing import Final, Literal

from fourlane.providers.ai.batches import Result
from fourlane.queues.guards.batches import Word

__all__ = [
    "MOST_BYTES",
    "MOST_REQUEST_BYTES",
    "MOST_TRIES",
    "is_due",
    "is_over",
    "look_again_ms",
    "may_wait_again",
    "settle_ms",
    "ticket_of",
    "word_of",
]

MOST_BYTES: Final = 32 << 20
"""Of one batch: a worker holds it in memory. Providers take some times more."""
MOST_REQUEST_BYTES: Final = 4 << 20
MOST_TRIES: Final = 2
_PASSING: Final = frozenset({408, 409, 425, 429})
_SOONEST_MS: Final = 50_000  # the next look of a collector that runs each minute
_LATEST_MS: Final = 600_000
_CANCELLING_MS: Final = 3_600_000
_LONGEST_SETTLING_MS: Final = 30_000


def ticket_of(job_id: str, step: str, full: str, tries: int) -> str:
    """The id of a request: of a form that all providers take, and another for each job, step, model and try."""
    return hashlib.sha256(f"{job_id}\0{step}\0{full}\0{tries}".encode()).hexdigest()[:48]


def word_of(result: Result) -> Word:
    """What a result means for its job."""
    if result.message is not None:
        return "answer"
    if not result.status or result.status in _PASSING or result.status >= 500:
        return "again"
    return "refused"


def is_due(number: int, oldest_ms: int, now_ms: int, *, wait_seconds: float, most: int) -> bool:
    """Whether what waits is submitted now."""
    return number >= most or (number > 0 and now_ms - oldest_ms >= wait_seconds * 1000)


def may_wait_again(tries: int, began_ms: int, now_ms: int, within_seconds: float) -> bool:
    """Whether a request that was not answered is asked in another batch, or at once: half its time is over."""
    return tries < MOST_TRIES and now_ms - began_ms < within_seconds * 500


def look_again_ms(sent_ms: int, now_ms: int) -> int:
    """When to look at a batch again: the longer it is under way, the later."""
    return now_ms + max(_SOONEST_MS, min(_LATEST_MS, (now_ms - sent_ms) // 10))


def is_over(formed_ms: int, cancelled_ms: int, now_ms: int, within_seconds: float) -> Literal["", "cancel", "give up"]:
    """What is done about a batch that does not end."""
    if cancelled_ms:
        return "give up" if now_ms - cancelled_ms >= _CANCELLING_MS else ""
    return "cancel" if now_ms - formed_ms >= within_seconds * 1000 else ""


def settle_ms(wait_seconds: float) -> int:
    """How long a submission whose answer was lost may take to be listed."""
    return int(min(_LONGEST_SETTLING_MS, wait_seconds * 1000))
