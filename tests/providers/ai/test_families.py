"""What models take, by their names alone: those of today, of yesterday and of next month."""

from __future__ import annotations

from typing import get_args

import pytest

from fourlane.providers.ai.families import family, nearest
from fourlane.providers.ai.question import Effort

LOW_TO_HIGH = ("low", "medium", "high")

ROWS = [
    # model, efforts, thinks, temperature, stop words
    ("openai/gpt-3.5-turbo", (), False, True, True),
    ("openai/gpt-4o", (), False, True, True),
    ("openai/gpt-4-0613", (), False, True, True),
    ("openai/gpt-4.1-mini-2025-04-14", (), False, True, True),
    ("openai/ft:gpt-4o-2024-08-06:acme::x", (), False, True, True),
    ("openai/o1", LOW_TO_HIGH, True, False, False),
    ("openai/o3-mini-2025-01-31", LOW_TO_HIGH, True, False, False),
    ("openai/o3-deep-research", ("medium",), True, False, False),
    ("openai/gpt-5", ("minimal", *LOW_TO_HIGH), True, False, False),
    ("openai/gpt-5-mini-2025-08-07", ("minimal", *LOW_TO_HIGH), True, False, False),
    ("openai/gpt-5-chat-latest", (), False, True, True),
    ("openai/gpt-5-pro-2025-10-06", ("high",), True, False, False),
    ("openai/gpt-5-codex", LOW_TO_HIGH, True, False, False),
    ("openai/gpt-5.1", ("none", *LOW_TO_HIGH), True, "unless_reasoning", False),
    ("openai/gpt-5.2-pro", ("medium", "high", "xhigh"), True, False, False),
    ("openai/gpt-5.4-nano", ("none", *LOW_TO_HIGH, "xhigh"), True, "unless_reasoning", False),
    ("openai/gpt-5.6-sol", ("none", *LOW_TO_HIGH, "xhigh", "max"), True, "unless_reasoning", False),
    ("openai/gpt-6.2-astra", ("none", *LOW_TO_HIGH, "xhigh", "max"), True, "unless_reasoning", False),
    ("openai/gpt-7", ("none", *LOW_TO_HIGH, "xhigh", "max"), True, "unless_reasoning", False),
    ("openai/gpt-12.5-something", ("none", *LOW_TO_HIGH, "xhigh", "max"), True, "unless_reasoning", False),
    ("openai/gpt-daybreak-blue-latest", ("none", *LOW_TO_HIGH, "xhigh", "max"), True, "unless_reasoning", False),
    ("openai/gpt-audio-mini", (), False, True, True),
    ("anthropic/claude-3-5-haiku-latest", (), False, True, True),
    ("anthropic/claude-haiku-4-5-20251001", LOW_TO_HIGH, False, True, True),
    ("anthropic/claude-sonnet-4-5", LOW_TO_HIGH, False, True, True),
    ("anthropic/claude-sonnet-4-20250514", LOW_TO_HIGH, False, True, True),
    ("anthropic/claude-opus-4-6", (*LOW_TO_HIGH, "max"), False, True, True),
    ("anthropic/claude-opus-4-8", (*LOW_TO_HIGH, "xhigh", "max"), False, False, True),
    ("anthropic/claude-sonnet-5", (*LOW_TO_HIGH, "xhigh", "max"), True, False, True),
    ("anthropic/claude-opus-5-5", (*LOW_TO_HIGH, "xhigh", "max"), True, False, True),
    ("anthropic/claude-mythos-5-2", (*LOW_TO_HIGH, "xhigh", "max"), True, False, True),
    ("anthropic/claude-sonnet-6", (*LOW_TO_HIGH, "xhigh", "max"), True, False, True),
    ("anthropic/claude-newline-6-1", (*LOW_TO_HIGH, "xhigh", "max"), True, False, True),
    ("google/gemini-2.0-flash", (), False, True, True),
    ("google/gemini-2.5-flash", ("none", *LOW_TO_HIGH), True, True, True),
    ("google/gemini-2.5-pro", LOW_TO_HIGH, True, True, True),
    ("google/gemini-3-pro-preview", ("low", "high"), True, True, True),
    ("google/gemini-3.8-flash", LOW_TO_HIGH, True, True, True),
    ("google/gemini-5-pro", LOW_TO_HIGH, True, True, True),
    ("google/gemini-flash-latest", LOW_TO_HIGH, True, True, True),
    ("perplexity/sonar", (), False, True, True),
    ("perplexity/sonar-deep-research", LOW_TO_HIGH, True, True, True),
    ("openrouter/openai/gpt-5", get_args(Effort), True, False, False),
    ("openrouter/anthropic/claude-opus-4.7", get_args(Effort), False, False, True),
    ("openrouter/deepseek/deepseek-r1:free", (), False, True, True),
    ("openrouter/openai/gpt-oss-120b", get_args(Effort), True, True, True),
]


@pytest.mark.parametrize(("full", "efforts", "reasons", "samples", "stops"), ROWS, ids=lambda value: str(value))
def test_what_models_take(full: str, efforts: tuple[Effort, ...], reasons: bool, samples: object, stops: bool) -> None:
    takes = family(*full.split("/", 1))
    assert (takes.efforts, takes.reasons, takes.samples, takes.stops) == (efforts, reasons, samples, stops)


@pytest.mark.parametrize(
    ("full", "thinking", "forced"),
    [
        ("anthropic/claude-haiku-4-5", "budget", True),
        ("anthropic/claude-opus-4-7", "adaptive", True),
        ("anthropic/claude-opus-5", "adaptive", True),
        ("anthropic/claude-opus-5-5", "always", False),
        ("anthropic/claude-fable-5", "adaptive", True),
        ("anthropic/claude-fable-5-1", "always", False),
        ("anthropic/claude-opus-6", "always", False),
        ("google/gemini-2.5-flash", "budget", True),
        ("google/gemini-3-flash", "level", True),
    ],
)
def test_how_they_are_told_to_think(full: str, thinking: str, forced: bool) -> None:
    takes = family(*full.split("/", 1))
    assert (takes.thinking, takes.forced) == (thinking, forced)


def test_who_thinks_has_more_time_for_the_first_piece() -> None:
    plain, thinks, longest = (family("openai", name) for name in ("gpt-4o", "gpt-5", "gpt-5.2-pro"))
    assert plain.first_seconds < thinks.first_seconds < longest.first_seconds
    assert plain.silence_seconds < thinks.silence_seconds


@pytest.mark.parametrize(
    ("asked", "known", "nearest_one"),
    [
        ("high", LOW_TO_HIGH, "high"),
        ("none", LOW_TO_HIGH, "low"),
        ("minimal", ("none", *LOW_TO_HIGH), "low"),  # the greater of two
        ("max", LOW_TO_HIGH, "high"),
        ("medium", ("low", "high"), "high"),
        ("low", (), None),
    ],
)
def test_the_nearest_effort(asked: Effort, known: tuple[Effort, ...], nearest_one: Effort | None) -> None:
    assert nearest(asked, known) == nearest_one
