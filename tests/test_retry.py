"""When a failed job is tried again: a row per rule."""

from __future__ import annotations

from typing import Any

import pytest
from dramatiq.errors import RateLimitExceeded
from dramatiq.errors import Retry as RetryLater

from fourlane.errors import Reject
from fourlane.retry import LONGEST_MS, Backoff, Policy, is_expected

STEPS = Backoff(1_000, 5_000, jitter=False)


@pytest.mark.parametrize(
    ("backoff", "attempt", "draw", "delay_ms"),
    [
        (STEPS, 1, 0.5, 1_000),
        (STEPS, 2, 0.5, 2_000),
        (STEPS, 3, 0.5, 4_000),
        (STEPS, 4, 0.5, 5_000),
        (STEPS, 10_000, 0.5, 5_000),
        (Backoff(1_000, 5_000), 3, 0.0, 0),  # full jitter
        (Backoff(1_000, 5_000), 3, 0.5, 2_000),
        (Backoff(0, 0), 3, 0.9, 0),
    ],
)
def test_the_wait_doubles_up_to_the_longest(backoff: Backoff, attempt: int, draw: float, delay_ms: int) -> None:
    assert backoff.delay_ms(attempt, lambda: draw) == delay_ms


@pytest.mark.parametrize("given", [(-1, 5), (6, 5), (0, LONGEST_MS + 1)])
def test_a_backoff_that_cannot_be(given: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="backoff needs"):
        Backoff(*given)


def few(retries: int, error: BaseException) -> bool:
    return retries < 3 and isinstance(error, OSError)


@pytest.mark.parametrize(
    ("policy", "error", "attempt", "delay_ms"),
    [
        (Policy(2, STEPS), ValueError(), 2, 2_000),
        (Policy(2, STEPS), ValueError(), 3, None),  # the third attempt was the last
        (Policy(0, STEPS), ValueError(), 1, None),
        (Policy(None, STEPS), ValueError(), 1_000, 5_000),  # no end
        (Policy(2, STEPS, throws=(KeyError,)), KeyError(), 1, None),
        (Policy(0, STEPS, retry_when=few), OSError(), 3, 4_000),  # it decides, not the number
        (Policy(9, STEPS, retry_when=few), OSError(), 4, None),
        (Policy(9, STEPS, retry_when=few), ValueError(), 1, None),
        (Policy(2, STEPS), RetryLater("later", delay=7), 1, 7),
        (Policy(2, STEPS), RetryLater("later", delay=0), 1, 0),
        (Policy(2, STEPS), RetryLater("later"), 1, 1_000),
        (Policy(2, STEPS), RetryLater("later", delay=7), 3, None),
    ],
)
def test_whether_and_when(policy: Policy, error: BaseException, attempt: int, delay_ms: int | None) -> None:
    assert policy.again_in_ms(error, attempt) == delay_ms


@pytest.mark.parametrize(
    ("options", "retries", "least", "most"),
    [
        ({}, 5, 1_000, 5_000),
        ({"max_retries": 0}, 0, 1_000, 5_000),
        ({"max_retries": None}, None, 1_000, 5_000),
        ({"min_backoff": 2_000}, 5, 2_000, 5_000),
        ({"min_backoff": 9_000}, 5, 9_000, 9_000),
        ({"max_backoff": 500}, 5, 500, 500),
        ({"min_backoff": float("inf")}, 5, LONGEST_MS, LONGEST_MS),
    ],
)
def test_a_job_s_own_options(options: dict[str, Any], retries: int | None, least: int, most: int) -> None:
    policy = Policy(5, STEPS).with_options(options)
    assert (policy.max_retries, policy.backoff) == (retries, Backoff(least, most, jitter=False))


def test_how_often_said_for_one_job_comes_before_the_task_s_own_way_to_decide() -> None:
    assert Policy(5, STEPS, retry_when=few).with_options({"max_retries": 1}).retry_when is None
    assert Policy(5, STEPS, retry_when=few).with_options({"min_backoff": 1}).retry_when is few


@pytest.mark.parametrize(
    ("error", "throws", "expected"),
    [
        (ValueError(), (), False),
        (ValueError(), (ValueError,), True),
        (RetryLater("later"), (), True),
        (RateLimitExceeded("full"), (), True),
        (Reject("never"), (), False),
    ],
)
def test_errors_that_are_raised_on_purpose(error: BaseException, throws: Any, expected: bool) -> None:
    assert is_expected(error, throws) is expected
