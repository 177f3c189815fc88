"""When requests are submitted, looked at and given up: tables."""

from __future__ import annotations

import re

import pytest

from fourlane.providers.ai.batches import Result
from fourlane.tasks.ai.batches.rules import is_due, is_over, look_again_ms, may_wait_again, ticket_of, word_of

DAY = 86_400.0


@pytest.mark.parametrize(
    ("result", "word"),
    [
        (Result(id="x", message={}), "answer"),
        (Result(id="x"), "again"),  # expired, cancelled
        (Result(id="x", status=429), "again"),
        (Result(id="x", status=529), "again"),
        (Result(id="x", status=400), "refused"),
        (Result(id="x", status=404), "refused"),
    ],
)
def test_what_a_result_means(result: Result, word: str) -> None:
    assert word_of(result) == word


@pytest.mark.parametrize(
    ("number", "age_ms", "due"),
    [(0, 0, False), (1, 59_999, False), (1, 60_000, True), (99, 0, False), (100, 0, True)],
)
def test_when_requests_are_submitted(number: int, age_ms: int, due: bool) -> None:
    assert is_due(number, 1_000, 1_000 + age_ms, wait_seconds=60, most=100) is due


@pytest.mark.parametrize(
    ("tries", "age_ms", "again"),
    [(1, 0, True), (1, 43_199_999, True), (1, 43_200_000, False), (2, 0, False)],
)
def test_when_a_request_waits_again(tries: int, age_ms: int, again: bool) -> None:
    assert may_wait_again(tries, 1_000, 1_000 + age_ms, DAY) is again


@pytest.mark.parametrize(
    ("cancelled_ms", "now_ms", "what"),
    [(0, 86_399_999, ""), (0, 86_400_000, "cancel"), (86_400_000, 86_400_001, ""), (86_400_000, 90_000_000, "give up")],
)
def test_a_batch_that_does_not_end(cancelled_ms: int, now_ms: int, what: str) -> None:
    assert is_over(0, cancelled_ms, now_ms, DAY) == what


def test_looks_come_later_and_later() -> None:
    assert [look_again_ms(0, now) - now for now in (0, 1_000_000, 99_000_000)] == [50_000, 100_000, 600_000]


def test_an_id_is_of_one_job_step_model_and_try() -> None:
    ids = {ticket_of(*one, tries) for one in (("a", "b", "c"), ("a", "b", "d"), ("a", "c", "c")) for tries in (1, 2)}
    assert len(ids) == 6
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", one) for one in ids)
