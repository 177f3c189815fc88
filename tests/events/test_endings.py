"""What becomes of a message straight from SQS: by the end of a handler, by all of them, and by what SQS can keep."""

from __future__ import annotations

import pytest
from dramatiq.errors import Retry as RetryLater

from fourlane.errors import Cancelled, InvalidEvent, RateLimited, Reject, Snooze
from fourlane.events.aws import LONGEST_VISIBILITY_SECONDS
from fourlane.events.endings import BACKOFF, HANDLED, MAX_FAILURES, Again, Bury, Ending, as_kept, judge, together
from fourlane.events.provision import RETENTION_SECONDS
from fourlane.reasons import ERROR, REJECTED

HOUR_MS = 3_600_000
NOW_MS = 1_000 * HOUR_MS


@pytest.mark.parametrize(
    ("error", "failures", "told", "action", "delay_ms", "reason"),
    [
        (None, 0, "", "done", 0, ""),
        (ValueError(), 0, "", "retry", 4_000, ""),
        (ValueError(), 1, "", "retry", 8_000, ""),
        (ValueError(), 3, "", "retry", 32_000, ""),
        (ValueError(), 4, "", "dead", 0, ERROR),
        (RetryLater("later", delay=700), 0, "", "retry", 700, ""),
        (RetryLater("later", delay=700), 4, "", "dead", 0, ERROR),
        (Snooze(3), 4, "", "postpone", 3_000, ""),
        (RateLimited(3), 4, "", "postpone", 3_000, ""),
        (Reject("never"), 0, "", "dead", 0, REJECTED),
        (InvalidEvent("odd"), 0, "", "dead", 0, REJECTED),
        (Cancelled(), 4, "shutdown", "back", 0, ""),
        (Cancelled(), 4, "time", "back", 0, ""),  # SQS hides it no longer
        (Cancelled(), 4, "", "dead", 0, ERROR),
    ],
)
def test_what_the_end_of_a_handler_means(
    error: BaseException | None, failures: int, told: str, action: str, delay_ms: int, reason: str
) -> None:
    verdict = judge(error, failures, told, MAX_FAILURES, BACKOFF)
    assert (verdict.action, verdict.delay_ms, verdict.reason) == (action, delay_ms, reason)


def test_the_pause_grows_up_to_a_quarter_of_an_hour() -> None:
    assert judge(ValueError(), 20, "", 100, BACKOFF).delay_ms == 900_000


@pytest.mark.parametrize(
    ("endings", "all_in_all"),
    [
        ([], HANDLED),
        ([HANDLED, HANDLED], HANDLED),
        ([HANDLED, Again(9), Again(4)], Again(4)),
        ([Bury("never"), Again(4)], Again(4)),  # it is buried when the others have ended too
        ([HANDLED, Bury("never"), Bury("broken")], Bury("never")),
    ],
)
def test_what_the_ends_of_several_handlers_mean(endings: list[Ending], all_in_all: Ending) -> None:
    assert together(endings) == all_in_all


@pytest.mark.parametrize(
    ("ending", "taken_for", "sent_ms", "becomes"),
    [
        (Again(30), 0.0, NOW_MS, Again(30)),
        (Again(10**6), 0.0, NOW_MS - HOUR_MS, Bury("its queue keeps it no longer, and it is not handled yet")),
        (Again(90_000), 600.0, NOW_MS - HOUR_MS, Again(LONGEST_VISIBILITY_SECONDS - 601)),
        (Again(1), 0.0, NOW_MS - RETENTION_SECONDS * 1000 + HOUR_MS + 2_000, Again(1)),
        (
            Again(3),
            0.0,
            NOW_MS - RETENTION_SECONDS * 1000 + HOUR_MS + 2_000,
            Bury("its queue keeps it no longer, and it is not handled yet"),
        ),
        (Again(3), 0.0, 0, Again(3)),  # when it was sent is not known
        (Bury("never"), 0.0, 1, Bury("never")),
        (HANDLED, 0.0, 1, HANDLED),
    ],
)
def test_what_sqs_can_keep(ending: Ending, taken_for: float, sent_ms: int, becomes: Ending) -> None:
    assert as_kept(ending, taken_for=taken_for, sent_ms=sent_ms, now_ms=NOW_MS) == becomes
