"""What the end of a run means for its job, and who hears of it.

Rules without side effects: no store, no hook, no clock. conclude.py acts on them for jobs, events/direct.py for
handlers that run straight from SQS. When a failed job is tried again says retry.py; poison is Redis's
(queues/lua/reclaim.lua).

1. before_middleware: ends of which middleware is not asked: lost, stopped, cancelled, skipped, expired.
2. judge: what an error means. A plain dramatiq actor's is its ``Retries``' to judge.
3. after_middleware: a middleware may have failed the message, or enqueued it again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from dramatiq.middleware import Shutdown

from fourlane.errors import Cancelled, FourlaneError, LeaseLost, RateLimited, Reject, Snooze, Steering
from fourlane.options import LONGEST_DELAY_MS
from fourlane.reasons import ERROR, EXPIRED, REJECTED, UNKNOWN_TASK
from fourlane.retry import Policy
from fourlane.worker.run.expiry import Expired
from fourlane.worker.run.plan import JudgedBy
from fourlane.worker.run.unknown import DEAD_AFTER_MS, pause_ms

__all__ = [
    "DONE",
    "RESULT_REFUSED",
    "UNDECIDED",
    "UNREADABLE",
    "Action",
    "End",
    "Skipped",
    "Tell",
    "Verdict",
    "after_middleware",
    "after_retries",
    "before_middleware",
    "decide",
    "is_answer",
    "judge",
    "tells",
    "unknown_task",
]

Action: TypeAlias = Literal["done", "retry", "postpone", "back", "cancel", "dead", "ask-retries"]
Tell: TypeAlias = Literal["skip", "on_failure", "on_retry_exhausted", "ack", "nack", "waiters"]


class Skipped(FourlaneError):
    """A middleware chose to skip the message: its function was not called."""


_USUAL: Final = Policy()


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended: all of it that counts.

    Parameters:
      attempt: its number; 1 is the first.
      told: why its cancel token was set, where it was.
      lost: its lease is known to be lost.
      failed: a middleware failed the message.
      rejects: errors that mean that it can never succeed.
    """

    error: BaseException | None = None
    attempt: int = 1
    policy: Policy = _USUAL
    told: str = ""
    lost: bool = False
    failed: bool = False
    judged_by: JudgedBy = "policy"
    rejects: tuple[type[Exception], ...] = (Reject,)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the job.

    Parameters:
      reason: of a dead letter (fourlane/reasons.py).
      spent: an attempt was.
      skipped: middleware hears that the message was skipped.
      as_enqueued: it is retried as a middleware enqueued it.
    """

    action: Action
    delay_ms: int = 0
    reason: str = ""
    spent: bool = True
    skipped: bool = False
    as_enqueued: bool = False


DONE: Final = Verdict("done")
RESULT_REFUSED: Final = Verdict("dead", reason=REJECTED)
UNDECIDED: Final = Verdict("dead", reason=ERROR)
UNREADABLE: Final = Verdict("dead", reason=REJECTED, spent=False)
_BACK: Final = Verdict("back")
_CANCEL: Final = Verdict("cancel")
_ASK_RETRIES: Final = Verdict("ask-retries")
_DEAD: Final = Verdict("dead", reason=ERROR)
_REJECTED: Final = Verdict("dead", reason=REJECTED)
_EXPIRED: Final = Verdict("dead", reason=EXPIRED, spent=False, skipped=True)
_SKIPPED: Final = Verdict("done", skipped=True)
_SKIPPED_AND_FAILED: Final = Verdict("dead", reason=REJECTED, skipped=True)


def decide(end: End) -> Verdict:
    """What an end means, where no middleware has a say."""
    return before_middleware(end) or judge(end)


def before_middleware(end: End) -> Verdict | None:
    """None for an end that is judged."""
    if end.lost or isinstance(end.error, LeaseLost):
        return _BACK  # refused by Redis, for the job runs elsewhere
    if is_answer(end.error, end.told):
        return _CANCEL if end.told == "cancelled" else _BACK
    if isinstance(end.error, Expired):
        return _EXPIRED
    if isinstance(end.error, Skipped):
        return _SKIPPED_AND_FAILED if end.failed else _SKIPPED
    return None


def judge(end: End) -> Verdict:
    """What an error means, if there is one."""
    error = end.error
    if error is None:
        return DONE
    if end.judged_by != "policy" and not isinstance(error, Steering):
        return _ASK_RETRIES if end.judged_by == "retries" else DONE
    if isinstance(error, (Snooze, RateLimited)):
        return Verdict("postpone", _bounded(error.delay_ms))
    if isinstance(error, end.rejects):
        return _REJECTED
    delay_ms = end.policy.again_in_ms(error, end.attempt)
    return _DEAD if delay_ms is None else Verdict("retry", _bounded(delay_ms))


def after_retries(*, failed: bool) -> Verdict:
    """What dramatiq's ``Retries`` has decided: it failed the message, or enqueued it again, or neither."""
    return _DEAD if failed else DONE


def after_middleware(verdict: Verdict, *, failed: bool, enqueued_again: tuple[Any, int | None] | None) -> Verdict:
    """The verdict, when middleware has had its say.

    Parameters:
      failed: the message is failed, by whomever.
      enqueued_again: a middleware enqueued it so: the message, and after how many milliseconds.
    """
    if verdict.action == "done" and enqueued_again is not None:
        verdict = Verdict("retry", _bounded(int(enqueued_again[1] or 0)), as_enqueued=True)
    if failed and verdict.action != "dead":
        verdict = _REJECTED
    return verdict


def unknown_task(unknown_ms: int, tries: int) -> Verdict:
    """A job of a task that nobody here knows: another version may. Back after a pause, dead after 24 h."""
    if unknown_ms >= DEAD_AFTER_MS:
        return Verdict("dead", reason=UNKNOWN_TASK, spent=False)
    return Verdict("postpone", pause_ms(unknown_ms, tries), spent=False)


_NOT_DONE: Final[tuple[Tell, ...]] = ("on_failure", "on_retry_exhausted")
_TOLD: Final[dict[Action, tuple[Tell, ...]]] = {
    "done": ("ack",),
    "retry": ("ack",),
    "postpone": ("ack",),
    "back": (),
    "cancel": (*_NOT_DONE, "nack", "waiters"),
    "dead": (*_NOT_DONE, "nack"),
}


def tells(verdict: Verdict, error: BaseException | None) -> tuple[Tell, ...]:
    """Who hears of it, in this order. ``on_failure`` hears of each failed run, and of each other end that is not done.

    Waiters hear of most ends by the outcome itself.
    """
    told = _TOLD[verdict.action]
    if verdict.skipped:
        return (*told[:-1], "skip", told[-1])
    if verdict.action in ("done", "retry") and error is not None:
        return ("on_failure", *told)
    return told


def is_answer(error: BaseException | None, told: str) -> bool:
    """The error is the answer to a cancel or a stop."""
    return bool(told) and isinstance(error, (Cancelled, Shutdown, asyncio.CancelledError))


def _bounded(delay_ms: float) -> int:
    return int(max(0, min(delay_ms, LONGEST_DELAY_MS)))
