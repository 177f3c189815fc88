"""Looks for inputs that make the product raise what is none of its errors: for a minute in all, or as long as told.

``make fuzz SECONDS=600`` looks for longer. Each target gets its share of the time, in rounds that begin anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

__all__ = ["fuzzed", "json_texts", "mostly", "odd_texts", "values"]

_TARGETS: Final = 7
_SECONDS: Final = float(os.environ.get("FUZZ_SECONDS", "60")) / _TARGETS
_ROUND: Final = settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


def fuzzed(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """A test that is given examples until its time is over."""

    def decorate(test: Callable[..., None]) -> Callable[[], None]:
        round_of_examples: Any = _ROUND(given(*strategies)(test))

        def run() -> None:
            over = time.monotonic() + _SECONDS
            while time.monotonic() < over:
                round_of_examples()

        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        return run

    return decorate


_ODD: Final = (
    "", " ", "\0", "\ud800", "\udfff\ud800", "\ufffe", "é", "\u202e", "NaN", "-0", "1e999", "9" * 5_000, "-1", "0x10",
    "²", "٣", "null", "true", "[]", "{}", "[" * 2_000, "{\"a\":" * 500, "a" * 9_000, "a|b", "a\nb", "%", "%s", "{0}",
    "..", "../../etc", "C:\\", "-", "--", "--help", "-1d", "1d", "5x", "now", "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00", "2026-02-30", "http://[", "http://[::1", "redis://:@:99999/x", "postgresql://h:p:q/",
    "s3://", "00000000-0000-0000-0000-000000000000", "application/json;;", "=", "a=b=c", ",", ",,,", "@", "* * * * *",
)  # fmt: skip
odd_texts: st.SearchStrategy[str] = (
    st.sampled_from(_ODD) | st.text(max_size=40) | st.text(st.characters(codec=None), max_size=20)
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(2**62, 2**70) | st.floats() | odd_texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(odd_texts, inner, max_size=4),
    max_leaves=8,
)


def mostly(good: Any, odd: st.SearchStrategy[Any] = odd_texts) -> st.SearchStrategy[Any]:
    """What is odd everywhere comes no further than the first look at it."""
    return st.integers(0, 4).flatmap(lambda number: odd if number == 4 else st.just(good))


@st.composite
def json_texts(draw: st.DrawFn, of: st.SearchStrategy[Any]) -> bytes:
    """JSON, or what somebody made of it."""
    text = json.dumps(draw(of), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        first, last = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
        text = text[:first] + draw(st.binary(max_size=8) | st.just(text[first:last] * 2)) + text[last:]
    return text
