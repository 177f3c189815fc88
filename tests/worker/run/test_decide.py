"""What becomes of a job, and who hears of it: a row per way in which a run ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dramatiq.errors import RateLimitExceeded
from dramatiq.errors import Retry as RetryLater
from dramatiq.middleware import Shutdown, TimeLimitExceeded

from fourlane.errors import Cancelled, InvalidEvent, LeaseLost, ProviderDown, RateLimited, Reject, Snooze
from fourlane.options import LONGEST_DELAY_MS
from fourlane.reasons import ERROR, EXPIRED, REJECTED, UNKNOWN_TASK
from fourlane.retry import Backoff, Policy
from fourlane.worker.run.decide import (
    DONE,
    RESULT_REFUSED,
    UNREADABLE,
    End,
    Skipped,
    Verdict,
    after_middleware,
    after_retries,
    decide,
    tells,
    unknown_task,
)
from fourlane.worker.run.expiry import Expired

HOUR_MS = 3_600_000
ONE = Policy(max_retries=1, backoff=Backoff(1_000, 60_000, jitter=False))
THROWS = Policy(throws=(KeyError,))
ERRORS = ("on_failure", "on_retry_exhausted", "nack")


def retry_later(delay: int | None) -> RetryLater:
    return RetryLater("later", delay=delay)


CASES: list[tuple[End, str, int, str, tuple[str, ...]]] = [
    # end, action, delay, reason, who hears of it
    (End(), "done", 0, "", ("ack",)),
    # An error
    (End(ValueError(), 1, ONE), "retry", 1_000, "", ("on_failure", "ack")),
    (End(ValueError(), 2, ONE), "dead", 0, ERROR, ERRORS),
    (End(SystemExit(), 1, ONE), "retry", 1_000, "", ("on_failure", "ack")),
    (End(TimeLimitExceeded(), 2, ONE), "dead", 0, ERROR, ERRORS),  # type: ignore[no-untyped-call]
    (End(retry_later(5), 1, ONE), "retry", 5, "", ("on_failure", "ack")),
    (End(retry_later(None), 1, ONE), "retry", 1_000, "", ("on_failure", "ack")),
    (End(retry_later(5), 2, ONE), "dead", 0, ERROR, ERRORS),
    (End(RateLimitExceeded("full"), 1, ONE), "retry", 1_000, "", ("on_failure", "ack")),
    (End(KeyError(), 1, THROWS), "dead", 0, ERROR, ERRORS),
    (End(retry_later(10**16), 1, ONE), "retry", LONGEST_DELAY_MS, "", ("on_failure", "ack")),
    # Errors by which a task steers, whatever its policy; no attempt is spent by a pause
    (End(Snooze(2), 9, ONE), "postpone", 2_000, "", ("ack",)),
    (End(RateLimited(0), 9, ONE), "postpone", 0, "", ("ack",)),
    (End(ProviderDown("openai/x", 3), 9, ONE), "postpone", 3_000, "", ("ack",)),
    (End(Reject("never"), 1, ONE), "dead", 0, REJECTED, ERRORS),
    (End(Snooze(2), 1, judged_by="retries"), "postpone", 2_000, "", ("ack",)),
    (End(Reject("never"), 1, judged_by="nobody"), "dead", 0, REJECTED, ERRORS),
    (End(InvalidEvent("odd"), 1, ONE, rejects=(InvalidEvent, Reject)), "dead", 0, REJECTED, ERRORS),
    (End(InvalidEvent("odd"), 1, ONE), "retry", 1_000, "", ("on_failure", "ack")),
    # Plain dramatiq actors
    (End(ValueError(), 1, judged_by="nobody"), "done", 0, "", ("on_failure", "ack")),
    # Stops and cancels count only where they were told of
    (End(Cancelled(), 1, ONE, told="cancelled"), "cancel", 0, "", (*ERRORS, "waiters")),
    (End(asyncio.CancelledError(), 1, ONE, told="cancelled"), "cancel", 0, "", (*ERRORS, "waiters")),
    (End(Shutdown(), 1, ONE, told="cancelled"), "cancel", 0, "", (*ERRORS, "waiters")),  # type: ignore[no-untyped-call]
    (End(Shutdown(), 1, ONE, told="shutdown"), "back", 0, "", ()),  # type: ignore[no-untyped-call]
    (End(Cancelled(), 1, ONE, told="shutdown"), "back", 0, "", ()),
    (End(Cancelled(), 1, ONE, told="time"), "back", 0, "", ()),
    (End(Cancelled(), 1, ONE), "retry", 1_000, "", ("on_failure", "ack")),
    (End(asyncio.CancelledError(), 2, ONE), "dead", 0, ERROR, ERRORS),
    (End(ValueError(), 1, ONE, told="shutdown"), "retry", 1_000, "", ("on_failure", "ack")),
    (End(None, told="cancelled"), "done", 0, "", ("ack",)),  # it ended before it heard
    # A lost lease: the job runs elsewhere
    (End(ValueError(), 2, ONE, lost=True), "back", 0, "", ()),
    (End(LeaseLost(), 2, ONE, told="lease_lost"), "back", 0, "", ()),
    (End(None, lost=True), "back", 0, "", ()),
    # No function was called
    (End(Expired("old"), 1, ONE), "dead", 0, EXPIRED, ("on_failure", "on_retry_exhausted", "skip", "nack")),
    (End(Skipped(), failed=True), "dead", 0, REJECTED, ("on_failure", "on_retry_exhausted", "skip", "nack")),
]


@pytest.mark.parametrize(("end", "action", "delay_ms", "reason", "told"), CASES)
def test_what_an_end_means(end: End, action: str, delay_ms: int, reason: str, told: tuple[str, ...]) -> None:
    verdict = decide(end)
    assert (verdict.action, verdict.delay_ms, verdict.reason) == (action, delay_ms, reason)
    assert tells(verdict, end.error) == told


def test_a_skipped_message_is_done_and_nobody_hears_of_a_failure() -> None:
    verdict = decide(End(Skipped()))
    assert (verdict.action, tells(verdict, None)) == ("done", ("skip", "ack"))


@pytest.mark.parametrize(("failed", "action"), [(True, "dead"), (False, "done")])
def test_retries_is_asked_about_plain_actors(failed: bool, action: str) -> None:
    assert decide(End(ValueError(), judged_by="retries")).action == "ask-retries"
    verdict = after_retries(failed=failed)
    assert (verdict.action, verdict.reason) == (action, ERROR if failed else "")


AGAIN: tuple[Any, int | None] = (None, 700)
RETRY = Verdict("retry", 50)
DEAD = Verdict("dead", reason=ERROR)


@pytest.mark.parametrize(
    ("verdict", "failed", "enqueued_again", "becomes"),
    [
        (DONE, False, None, DONE),
        (RETRY, False, None, RETRY),
        (DONE, False, AGAIN, Verdict("retry", 700, as_enqueued=True)),
        (DONE, False, (None, None), Verdict("retry", 0, as_enqueued=True)),
        (RETRY, False, AGAIN, RETRY),  # its own policy comes first
        (DEAD, True, AGAIN, DEAD),
        (DEAD, True, None, DEAD),  # it keeps its own reason
        (DONE, True, None, Verdict("dead", reason=REJECTED)),
        (RETRY, True, None, Verdict("dead", reason=REJECTED)),
        (DONE, True, AGAIN, Verdict("dead", reason=REJECTED)),
        (Verdict("postpone", 5), True, None, Verdict("dead", reason=REJECTED)),
    ],
)
def test_middleware_may_fail_a_message_or_enqueue_it_again(
    verdict: Verdict, failed: bool, enqueued_again: Any, becomes: Verdict
) -> None:
    assert after_middleware(verdict, failed=failed, enqueued_again=enqueued_again) == becomes


@pytest.mark.parametrize(
    ("unknown_ms", "tries", "action", "delay_ms", "reason"),
    [
        (0, 1, "postpone", 0, ""),
        (0, 4, "postpone", 500, ""),
        (24 * HOUR_MS - 1, 4_000, "postpone", 30_000, ""),
        (24 * HOUR_MS, 4_001, "dead", 0, UNKNOWN_TASK),
        (-HOUR_MS, 1, "postpone", 0, ""),  # another worker's clock is ahead
    ],
)
def test_a_job_of_a_task_that_nobody_knows(
    unknown_ms: int, tries: int, action: str, delay_ms: int, reason: str
) -> None:
    verdict = unknown_task(unknown_ms, tries)
    assert (verdict.action, verdict.delay_ms, verdict.reason) == (action, delay_ms, reason)


def test_an_attempt_is_spent_where_a_function_ran() -> None:
    assert [RESULT_REFUSED.spent, decide(End(Reject())).spent, decide(End(ValueError())).spent] == [True] * 3
    assert [UNREADABLE.spent, unknown_task(24 * HOUR_MS, 1).spent, decide(End(Expired())).spent] == [False] * 3
