"""What providers' answers say of their health, read without any of them."""

from __future__ import annotations

import pytest

from fourlane.providers.retry_after import retry_after_ms
from fourlane.providers.signals import Signal, quota_silence_ms, signal_of_error_type, signal_of_status


@pytest.mark.parametrize(
    ("headers", "milliseconds"),
    [
        ({"retry-after": "2"}, 2_000),
        ({"retry-after": "0.5"}, 500),
        ({"retry-after-ms": "250", "retry-after": "9"}, 250),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90_000),  # a date: now is second 10
        ({"retry-after": "99999999999999"}, 3_600_000),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], milliseconds: int | None) -> None:
    assert retry_after_ms(headers, now_seconds=10) == milliseconds


@pytest.mark.parametrize(
    ("headers", "milliseconds"),
    [
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "60s"}, 0),
        (
            {
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1m0s",
            },
            1_000,
        ),
        (
            {
                "anthropic-ratelimit-tokens-limit": "10",
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "1970-01-01T00:01:10Z",
            },
            6_000,
        ),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "nonsense"}, 0),
    ],
)
def test_quota_headers(headers: dict[str, str], milliseconds: int) -> None:
    assert quota_silence_ms(headers, now_seconds=10) == milliseconds


@pytest.mark.parametrize(
    ("status", "verdict", "again"),
    [(200, "ok", False), (400, "neutral", False), (401, "neutral", False), (408, "neutral", True),
     (429, "limited", True), (500, "down", True), (529, "down", True)],
)  # fmt: skip
def test_statuses(status: int, verdict: str, again: bool) -> None:
    signal = signal_of_status(status, {})
    assert (signal.verdict, signal.again) == (verdict, again)


DOWN, LIMITED = Signal("down", again=True), Signal("limited", again=True, silence_ms=-1)


@pytest.mark.parametrize(
    ("word", "signal"),
    [
        ("overloaded_error", DOWN),  # Anthropic
        ("api_error", DOWN),
        ("timeout_error", DOWN),
        ("rate_limit_error", LIMITED),
        ("conflict_error", Signal("neutral", again=True)),
        ("invalid_request_error", Signal("neutral")),
        ("billing_error", Signal("neutral")),
        ("server_error", DOWN),  # OpenAI
        ("server_is_overloaded", DOWN),
        ("rate_limit_exceeded", LIMITED),
        ("slow_down", LIMITED),
        ("insufficient_quota", Signal("neutral")),  # waiting fills no account
        ("context_length_exceeded", Signal("neutral")),
        ("UNAVAILABLE", DOWN),  # Google
        ("INTERNAL", DOWN),
        ("DEADLINE_EXCEEDED", DOWN),
        ("RESOURCE_EXHAUSTED", LIMITED),
        ("INVALID_ARGUMENT", Signal("neutral")),
        ("502", DOWN),  # OpenRouter says a status
        ("429", LIMITED),
        ("402", Signal("neutral")),
        ("200", None),
        ("5020", None),
        ("a_word_of_next_month", None),
        ("", None),
    ],
)
def test_words_of_errors(word: str, signal: Signal | None) -> None:
    assert signal_of_error_type(word) == signal


def test_an_overload_may_say_until_when() -> None:
    assert signal_of_status(529, {"retry-after": "7"}) == Signal("down", again=True, silence_ms=7_000)
    assert signal_of_status(503, {}) == DOWN
