"""Money as whole numbers, as tables."""

from __future__ import annotations

import pytest

from fourlane import money


@pytest.mark.parametrize(
    ("text", "currency", "minor", "shown"),
    [
        ("12.34", "USD", 1_234, "12.34 USD"),
        ("12.3", "usd", 1_230, "12.30 USD"),
        ("0.05", "EUR", 5, "0.05 EUR"),
        ("-0.05", "EUR", -5, "-0.05 EUR"),
        ("500", "JPY", 500, "500 JPY"),
        ("500.00", "JPY", 500, "500 JPY"),  # nothing finer than its minor unit
        ("1.234", "KWD", 1_234, "1.234 KWD"),
        ("1.2345", "CLF", 12_345, "1.2345 CLF"),
        ("123456789012345.67", "USD", 12_345_678_901_234_567, "123456789012345.67 USD"),  # no float could
    ],
)
def test_an_amount_is_read_and_shown(text: str, currency: str, minor: int, shown: str) -> None:
    assert money.parse(text, currency) == minor
    assert money.show(minor, currency) == shown


@pytest.mark.parametrize(
    ("text", "currency", "words"),
    [
        ("12.345", "USD", "finer"),
        ("0.5", "JPY", "finer"),
        ("12,34", "USD", "no amount"),
        ("1e3", "USD", "no amount"),
        (" 1", "USD", "no amount"),
        ("", "USD", "no amount"),
        (".5", "USD", "no amount"),
        ("1234567890123456", "USD", "no amount"),
        ("1", "XYZ", "no currency"),
    ],
)
def test_what_is_no_amount(text: str, currency: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        money.parse(text, currency)


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        (1_234, "usd", 1_234),
        (500, "jpy", 500),
        (1_234, "kwd", 1_234),
        (5_000, "mga", 500_000),  # Stripe has no decimals of it, ISO has two
        (50_000, "isk", 500),  # and hundredths of what has none
        (-50_000, "ugx", -500),
        (50_050, "isk", None),
    ],
)
def test_what_stripe_counts(amount: int, currency: str, minor: int | None) -> None:
    if minor is not None:
        assert money.from_stripe(amount, currency) == minor
        return
    with pytest.raises(ValueError, match="finer"):
        money.from_stripe(amount, currency)
