"""What calls cost: beside genai-prices' own reading of the providers' answers, and by prices of one's own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import genai_prices
import pytest

from fourlane.providers.ai import Answer, Usage
from fourlane.tasks.ai.config import AiConfig
from fourlane.tasks.ai.money.prices import charge, cost
from fourlane.tasks.ai.money.taken import Taken, counted

NOTHING_OWN = AiConfig()

ANSWERS: list[tuple[str, str, dict[str, Any], Usage, str]] = [
    (
        "openai/gpt-4o",
        "chat",
        {
            "model": "gpt-4o",
            "usage": {
                "prompt_tokens": 1_000,
                "completion_tokens": 500,
                "total_tokens": 1_500,
                "prompt_tokens_details": {"cached_tokens": 800},
            },
        },
        Usage(input_tokens=1_000, cache_read_tokens=800, output_tokens=500),
        "0.0065",
    ),
    (
        "google/gemini-2.5-flash",
        "default",
        {
            "modelVersion": "gemini-2.5-flash",
            "usageMetadata": {"promptTokenCount": 1_000, "candidatesTokenCount": 500, "thoughtsTokenCount": 4_000},
        },
        Usage(input_tokens=1_000, output_tokens=4_500, reasoning_tokens=4_000),
        "0.01155",
    ),
    (
        "anthropic/claude-sonnet-4-5",
        "default",
        {
            "model": "claude-sonnet-4-5",
            "usage": {
                "input_tokens": 1_000,
                "output_tokens": 500,
                "cache_creation_input_tokens": 300,
                "cache_read_input_tokens": 200,
                "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
            },
        },
        Usage(
            input_tokens=1_500,
            cache_read_tokens=200,
            cache_write_tokens=300,
            cache_write_1h_tokens=100,
            output_tokens=500,
        ),
        "0.01191",
    ),
]


@pytest.mark.parametrize(("full", "flavor", "answer", "usage", "dollars"), ANSWERS, ids=[row[0] for row in ANSWERS])
def test_an_answer_costs_what_the_table_of_prices_reads_in_it(
    full: str, flavor: str, answer: dict[str, Any], usage: Usage, dollars: str
) -> None:
    read = genai_prices.extract_usage(answer, provider_id=full.partition("/")[0], api_flavor=flavor)
    assert cost(NOTHING_OWN, full, usage) == read.calc_price().total_price == Decimal(dollars)


@pytest.mark.parametrize(
    ("full", "usage", "dollars"),
    [
        # What the provider bills, whatever the tables say.
        ("perplexity/sonar", Usage(input_tokens=1_000, output_tokens=500, billed_usd=Decimal("0.0065")), "0.0065"),
        ("openrouter/nobody/knows", Usage(input_tokens=9, billed_usd=Decimal("0.00000125")), "0.00000125"),
        ("perplexity/sonar", Usage(input_tokens=1_000, output_tokens=500, searches=1), "0.004"),  # it does not say
        ("perplexity/sonar-pro", Usage(input_tokens=1_000, output_tokens=500, searches=1), "0.004"),  # the same model
        ("openai/whisper-1", Usage(audio_seconds=90.0), "0.009"),
        ("openai/gpt-transcribe", Usage(audio_seconds=3_600.0), "0.27"),
        ("openai/tts-1", Usage(characters=1_000), "0.015"),
        ("openai/gpt-image-1", Usage(input_tokens=100, input_image_tokens=40, output_tokens=1_000), "0.0407"),
        ("openai/gpt-image-1.5", Usage(input_tokens=100, output_tokens=1_000, output_image_tokens=1_000), "0.0325"),
        ("openai/dall-e-3", Usage(images=1, image="1024x1024"), "0.04"),
        ("openai/dall-e-3", Usage(images=2, image="1792x1024"), "0.16"),
        ("openai/dall-e-3", Usage(images=1, image="1792x1024 hd"), "0.12"),
        ("openai/dall-e-3", Usage(images=1, image="1024x1024 standard"), "0.04"),
        ("openai/text-embedding-3-small", Usage(input_tokens=1), "0.00000002"),
        ("openai/moderation", Usage(input_tokens=100), "0"),  # free, and known to be
        ("openai/gpt-4o", Usage(input_tokens=1_000, output_tokens=100, searches=2), "0.0235"),
        ("openai/gpt-6-sol", Usage(input_tokens=300_000, output_tokens=1_000), "1.215"),  # above 272,000 all cost more
        # Half for a batch; searches are not.
        ("openai/gpt-4o", Usage(input_tokens=1_000, output_tokens=500, half=True), "0.00375"),
        ("openai/text-embedding-3-small", Usage(input_tokens=100_000, half=True), "0.001"),
        ("anthropic/claude-opus-4-1", Usage(input_tokens=1_000, output_tokens=100, half=True), "0.01125"),
        # Paid by tokens, of which nobody told: by what is known.
        ("openai/gpt-image-1", Usage(images=1, image="1024x1024 low"), "0.01088"),
        ("openai/gpt-image-1", Usage(images=2, image="1024x1536 high"), "0.4992"),
        ("openai/gpt-image-1", Usage(images=1, image="auto"), "0.2496"),
        ("google/gemini-2.5-flash-image", Usage(images=1), "0.0387"),
        ("openai/gpt-4o-mini-tts", Usage(characters=1_000), "0.02055"),
        ("openai/gpt-4o-transcribe", Usage(audio_seconds=60.0), "0.00852"),
        ("openai/nobody-knows", Usage(input_tokens=1), None),
        ("openai/whisper-1", Usage(input_tokens=10, output_tokens=10), None),  # it has a price, but not for this
    ],
)
def test_what_usage_costs(full: str, usage: Usage, dollars: str | None) -> None:
    assert cost(NOTHING_OWN, full, usage) == (None if dollars is None else Decimal(dollars))


@pytest.mark.parametrize(
    ("price", "usage", "dollars"),
    [
        ({"input": 2, "output": 10}, Usage(input_tokens=1_000, cache_read_tokens=600, output_tokens=100), "0.003"),
        ({"input": 2, "cached_input": 0.2}, Usage(input_tokens=1_000, cache_read_tokens=600), "0.00092"),
        ({"input": 2, "cache_write": 2.5}, Usage(input_tokens=1_000, cache_write_tokens=600), "0.0023"),
        ({"image": 0.04, "image 1024x1024": 0.05, "image 1024x1024 high": 0.1}, Usage(images=1, image="64x64"), "0.04"),
        ({"image": 0.04, "image 1024x1024": 0.05}, Usage(images=1, image="1024x1024 low"), "0.05"),
        ({"image 1024x1024 high": 0.1}, Usage(images=3, image="1024x1024 high"), "0.3"),
        ({"minute": 0.006}, Usage(audio_seconds=90.0), "0.009"),
        ({"characters": 15}, Usage(characters=200), "0.003"),
        ({"request": 0.005, "search": 0.01}, Usage(searches=3), "0.035"),
        ({"input": 1, "request": 0.005}, Usage(input_tokens=1_000, half=True), "0.0055"),
        ({"input": 0, "output": 0}, Usage(input_tokens=1_000), "0"),
    ],
)
@pytest.mark.parametrize("name", ["openai/gpt-4o", "openai/*"])
def test_prices_of_ones_own(name: str, price: dict[str, float], usage: Usage, dollars: str) -> None:
    assert cost(AiConfig(prices={name: price}), "openai/gpt-4o", usage) == Decimal(dollars)


def test_nothing_is_lost_of_many_tiny_calls() -> None:
    one = charge(NOTHING_OWN, "openai/text-embedding-3-small", [Usage(input_tokens=7)])
    assert (one.nano, one.known, one.estimated) == (140, True, False)  # a seventh of a millionth of a dollar
    assert 100_000 * one.nano == 14_000_000


def test_a_call_without_a_price_is_booked_at_what_the_settings_say() -> None:
    usage = [Usage(input_tokens=5), Usage(input_tokens=7)]
    free = charge(NOTHING_OWN, "openai/nobody-knows", usage)
    assert (free.nano, free.known, free.priced) == (0, False, False)
    said = charge(AiConfig(unpriced_usd=Decimal("0.02")), "openai/nobody-knows", usage)
    assert (said.usd, said.known, said.priced) == (0.04, False, True)  # two tries


MOST = Usage(input_tokens=100, output_tokens=1_000)


@pytest.mark.parametrize(
    ("most", "answer", "expected"),
    [
        (MOST, Answer(text="x" * 400), Usage(input_tokens=100, output_tokens=108, told=False)),
        (MOST, Answer(text="x" * 40_000), Usage(input_tokens=100, output_tokens=1_000, told=False)),
        (Usage(images=1, image="1024x1024"), Answer(), Usage(images=1, image="1024x1024", told=False)),
        (Usage(audio_seconds=60.0), Answer(text="heard"), Usage(audio_seconds=60.0, told=False)),
    ],
)
def test_a_silent_providers_answer_is_counted(most: Usage, answer: Answer, expected: Usage) -> None:
    assert counted(most, answer) == expected


class _Status(Exception):
    status_code = 503


def test_each_try_that_a_provider_took_is_counted() -> None:
    taken = Taken(MOST)
    taken.begin()
    taken.broke(_Status())  # an error is no work
    taken.broke(ConnectionRefusedError())
    assert taken.usages == []
    taken.heard("x" * 40)
    broken = taken.broke(TimeoutError())
    assert broken.usage == Usage(input_tokens=100, output_tokens=18, told=False)
    taken.begin()
    taken.heard("x" * 400)
    taken.broke(_Status())  # amid the answer
    whole = taken.answered(Answer(text="ok", finish="stop", usage=Usage(input_tokens=90, output_tokens=3)))
    assert whole.usage.told
    assert taken.total == Usage(input_tokens=290, output_tokens=18 + 108 + 3, told=False)
    assert charge(NOTHING_OWN, "openai/gpt-4o", taken.usages).estimated
