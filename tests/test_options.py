"""What options may be, as tables."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest

from fourlane.errors import InvalidOption
from fourlane.options import check_declared, check_delay, check_encrypt, check_sent, fault_of, result_ttl_ms
from fourlane.retry import LONGEST_MS, Backoff

WRONG: list[Any] = [
    ("max_retries", "3"),
    ("max_retries", 1.5),
    ("max_retries", True),
    ("max_retries", -1),
    ("time_limit", "60000"),
    ("time_limit", -1),
    ("time_limit", float("nan")),
    ("max_age", "x"),
    ("min_backoff", "x"),
    ("max_backoff", [1]),
    ("max_backoff", 10**20),
    ("result_ttl_ms", sys.maxsize),
    ("result_ttl_ms", 10**20),
    ("result_ttl_ms", -1),
    ("result_ttl_ms", 1.5),
    ("result_ttl_ms", True),
    ("result_ttl_ms", "x"),
    pytest.param("result_ttl_ms", 10**5000, id="digits"),
    ("on_bad_result", "retry"),
    ("on_retry_exhausted", 3),
]
"""Options of a job with values that mean nothing."""


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_means_nothing(name: str, value: Any) -> None:
    assert fault_of({name: value}).startswith(f"{name}=")
    for check in (check_sent, check_declared):
        with pytest.raises(InvalidOption, match=f"^{name}=.*: it must be"):
            check({"max_retries": 1, name: value})


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("time_limit", 1_000, 1_000),
        ("time_limit", None, None),
        ("time_limit", math.inf, LONGEST_MS),  # JSON has no infinity
        ("max_age", 0.5, 0.5),
        ("max_retries", 0, 0),
        ("max_retries", None, None),
        ("max_retries", math.inf, LONGEST_MS),
        ("max_backoff", LONGEST_MS, LONGEST_MS),
        ("result_ttl_ms", 0, 0),
        ("on_bad_result", "dead", "dead"),
        ("on_failure", "hears", "hears"),
        ("priority", object, object),  # of others: not ours to judge
    ],
)
def test_what_a_call_may_say(name: str, value: Any, kept: Any) -> None:
    assert fault_of({name: value}) == ""
    assert check_sent({name: value}) == {name: kept}


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("throws", ValueError, (ValueError,)),
        ("throws", [ValueError, KeyError], (ValueError, KeyError)),
        ("backoff", Backoff(1, 2), Backoff(1, 2)),
        ("share", 1, 1),
        ("share", 0.25, 0.25),
        ("retry_when", None, None),
    ],
)
def test_what_a_declaration_may_say(name: str, value: Any, kept: Any) -> None:
    assert check_declared({name: value}) == {name: kept}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("throws", "ValueError"), ("throws", [3]), ("backoff", 3), ("share", 0), ("share", 1.1), ("share", True)),
        *(("retry_when", 3), ("hard_timeout_ms", -1)),
    ],
)
def test_what_a_declaration_may_not_say(name: str, value: Any) -> None:
    with pytest.raises(InvalidOption, match=f"^{name}=.*: it must be"):
        check_declared({name: value})


def test_encryption_delays_and_results() -> None:
    assert [check_encrypt(given) for given in (True, False, "accept-plain")] == [True, False, "accept-plain"]
    for wrong in (None, 1.5, "yes"):
        with pytest.raises(InvalidOption, match="encrypt="):
            check_encrypt(wrong)
    assert check_delay(0, "delay") == 0
    for milliseconds in (-1, 10**30):
        with pytest.raises(InvalidOption, match="delay must be from 0"):
            check_delay(milliseconds, "delay")
    # What a stranger wrote means the task's own.
    assert [result_ttl_ms({"result_ttl_ms": given}, 7) for given in (5, 0, -1, "x", 1.5, True)] == [5, 0, 7, 7, 7, 7]
