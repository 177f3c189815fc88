"""How dramatiq's Worker says that a message ended, as an outcome that a turn writes."""

from __future__ import annotations

import time
from typing import Any

import dramatiq
from dramatiq.broker import MessageProxy

from fourlane import codec, job
from fourlane.outcome import Dead, Retry
from fourlane.queues.records import failed_again, retried_as, write_record
from fourlane.queues.turn import Leased
from fourlane.queues.words import UNSAID, kept_trace, words_of
from fourlane.reasons import ERROR, REJECTED

__all__ = ["LeasedMessage", "dead", "retry", "unwritten"]


class LeasedMessage(MessageProxy):
    """A message and the lease on its job."""

    def __init__(self, message: dramatiq.Message[Any], leased: Leased, holder: str) -> None:
        super().__init__(message)
        self.leased = leased
        self.holder = holder
        self.sealed = codec.is_sealed(codec.decode(leased.body))
        self.takes_retry = False
        self.enqueued_again: tuple[dramatiq.Message[Any], int | None] | None = None


def retry(message: LeasedMessage) -> Retry:
    """It runs again, as the message says that a middleware enqueued in its place."""
    assert message.enqueued_again is not None
    copy, delay_ms = message.enqueued_again
    trace = _trace(message, copy.options)
    error = UNSAID if message.sealed else trace.strip().rpartition("\n")[2]
    record = write_record(retried_as(message.leased.record, copy.options), _attempt(message, error, trace))
    return Retry(delay_ms or 0, record, error)


def dead(message: LeasedMessage) -> Dead:
    """dramatiq gave it up."""
    exception = message._exception
    error = words_of(exception, unsaid=message.sealed) if exception else REJECTED
    attempt = _attempt(message, error, _trace(message, message.options))
    return Dead(ERROR, error, write_record(failed_again(message.leased.record), attempt))


def unwritten(message: LeasedMessage, error: Exception) -> Dead:
    """Its end cannot be written as it was, such as options that are no JSON. Made of what cannot fail."""
    return Dead(ERROR, words_of(error, unsaid=message.sealed), message.leased.record)


def _trace(message: LeasedMessage, options: dict[str, Any]) -> str:
    """What dramatiq's Retries puts there."""
    return "" if message.sealed else kept_trace(str(options.get("traceback", "")))


def _attempt(message: LeasedMessage, error: str, trace: str) -> job.Attempt:
    return job.Attempt(int(time.time() * 1000), error, trace, message.holder)
