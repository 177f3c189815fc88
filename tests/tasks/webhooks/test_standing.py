"""How an endpoint stands after its attempts, and what follows for its line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fourlane.tasks.webhooks.standing import Attempted, Order, Standing, is_over, order, stands

QUICK, SLOW = 20.0, 20_000.0
TAKEN, FAILED = Attempted(True, QUICK), Attempted(False)
WELL = Standing()


@pytest.mark.parametrize(
    ("before", "attempted", "after"),
    [
        (WELL, TAKEN, WELL),
        (WELL, FAILED, Standing(1, 0)),
        (Standing(7, 0), FAILED, Standing(8, 0)),
        (Standing(7, 0), TAKEN, WELL),
        (Standing(0, 2), Attempted(True, SLOW), Standing(0, 3)),
        (Standing(0, 5), Attempted(True, SLOW), Standing(0, 5)),
        (Standing(0, 5), TAKEN, WELL),
        (Standing(0, 5), FAILED, Standing(1, 5)),  # no answer is no quick one
        (Standing(1, 4), Attempted(False, SLOW), Standing(2, 5)),
    ],
)
def test_what_an_attempt_says(before: Standing, attempted: Attempted, after: Standing) -> None:
    assert stands(before, attempted, slow_ms=10_000) == after


@pytest.mark.parametrize(
    ("before", "now", "attempted", "follows"),
    [
        (WELL, WELL, TAKEN, Order()),
        (WELL, Standing(1), FAILED, Order()),
        (Standing(4), Standing(5), FAILED, Order(30_000, 1)),
        (Standing(9), Standing(10), FAILED, Order(30_000, 1)),  # again: the line may have been empty meanwhile
        (Standing(5), WELL, TAKEN, Order(0, 0)),
        (WELL, Standing(1), Attempted(False, QUICK, 7_000), Order(7_000)),
        (Standing(5), Standing(6), Attempted(False, QUICK, 7_000), Order(30_000, 1)),
        (Standing(5), Standing(6), Attempted(False, QUICK, 90_000), Order(90_000, 1)),
        (Standing(0, 4), Standing(0, 5), Attempted(True, SLOW), Order(0, 1)),
        (Standing(0, 5), Standing(0, 0), TAKEN, Order(0, 0)),
        (Standing(5, 5), Standing(0, 5), Attempted(True, SLOW), Order(0, 1)),  # still slow
    ],
)
def test_what_follows_for_the_line(before: Standing, now: Standing, attempted: Attempted, follows: Order) -> None:
    assert order(before, now, attempted, most=10, made_for=10) == follows


@pytest.mark.parametrize(
    ("before", "made_for", "follows"),
    [
        (WELL, 20, Order(0, 10)),  # the endpoint takes fewer by now
        (Standing(5), 20, Order(0, 10)),
        (WELL, 5, Order()),  # those that were made since say more
    ],
)
def test_the_line_follows_what_the_endpoint_takes(before: Standing, made_for: int, follows: Order) -> None:
    assert order(before, WELL, TAKEN, most=10, made_for=made_for) == follows


def test_patience() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    assert not is_over(since, since + timedelta(days=4, hours=23), patience=timedelta(days=5))
    assert is_over(since, since + timedelta(days=5), patience=timedelta(days=5))
