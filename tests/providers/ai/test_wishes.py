"""What may be wished of models that make and hear: a row for each rule."""

from __future__ import annotations

from typing import Any

import pytest

from fourlane.errors import InvalidArguments
from fourlane.providers.ai.media import (
    Ability,
    ImageWish,
    SpeechWish,
    batches,
    check_image,
    check_speech,
    refuse_unable,
)
from fourlane.providers.ai.media.wishes import google_size

NEW, OLD, FIXED = "openai/gpt-image-2.6-sunburst", "openai/gpt-image-2", "openai/gpt-image-1.5"
GEMINI = "google/gemini-3.1-flash-image"


@pytest.mark.parametrize(
    ("model", "wish"),
    [
        (NEW, {"size": "1536x864", "quality": "max", "background": "transparent", "format": "webp"}),
        (OLD, {"size": "3840x2160", "quality": "high", "n": 10}),
        ("openai/gpt-image-4-next-year", {"size": "2048x2048", "quality": "max"}),
        (FIXED, {"size": "1024x1536"}),
        (GEMINI, {"size": "2K 16:9"}),
        (GEMINI, {"size": "1920x1080"}),
    ],
)
def test_images_that_can_be_made(model: str, wish: dict[str, Any]) -> None:
    check_image(model, ImageWish(prompt="a fox", **wish))


@pytest.mark.parametrize(
    ("model", "wish", "said"),
    [
        (NEW, {"size": "1000x1000"}, "divisible by 16"),
        (NEW, {"size": "large"}, "or auto"),
        (NEW, {"size": "3200x512"}, "three times"),
        (NEW, {"size": "3840x2176"}, "at most 3840x2160"),
        (FIXED, {"size": "1536x864"}, "1024x1024"),
        (OLD, {"quality": "max"}, "use one of auto, low, medium, high"),
        (NEW, {"quality": "hd"}, "quality 'hd'"),
        (NEW, {"format": "gif"}, "format 'gif'"),
        (NEW, {"format": "jpeg", "background": "transparent"}, "no transparent background"),
        (NEW, {"n": 11}, "n must be 1 to 10"),
        (NEW, {"n": True}, "n must be 1 to 10"),
        (GEMINI, {"quality": "high"}, "knows none"),
        (GEMINI, {"n": 2}, "one image at a time"),
        (GEMINI, {"size": "8K"}, "size '8K'"),
        (GEMINI, {"size": "1000x333"}, "aspect ratio"),
    ],
)
def test_images_that_cannot_be_made(model: str, wish: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArguments, match=said):
        check_image(model, ImageWish(prompt="a fox", **wish))


def test_a_prompt_that_is_too_long() -> None:
    with pytest.raises(InvalidArguments, match="32,001 signs"):
        check_image(NEW, ImageWish(prompt="x" * 32_001))


@pytest.mark.parametrize(
    ("size", "made"),
    [
        ("auto", {}),
        ("4k", {"image_size": "4K"}),
        ("16:9", {"aspect_ratio": "16:9"}),
        ("1024x1024", {"aspect_ratio": "1:1", "image_size": "1K"}),
        ("3840x2160", {"aspect_ratio": "16:9", "image_size": "4K"}),
    ],
)
def test_sizes_as_google_takes_them(size: str, made: dict[str, str]) -> None:
    assert google_size(size) == made


@pytest.mark.parametrize(
    ("model", "wish", "made"),
    [
        ("openai/gpt-4o-mini-tts", {}, ("alloy", "mp3")),
        ("openai/gpt-4o-mini-tts", {"voice": "marin", "format": "wav", "instructions": "softly"}, ("marin", "wav")),
        ("openai/gpt-4o-mini-tts", {"voice": "voice_1234"}, ("voice_1234", "mp3")),  # one's own
        ("google/gemini-3.8-flash-tts", {}, ("Kore", "wav")),
        ("google/gemini-3.8-flash-tts", {"voice": "puck"}, ("Puck", "wav")),
    ],
)
def test_speech_that_can_be_made(model: str, wish: dict[str, str], made: tuple[str, str]) -> None:
    checked = check_speech(model, SpeechWish(text="hello", **wish))
    assert (checked.voice, checked.format) == made


@pytest.mark.parametrize(
    ("model", "wish", "said"),
    [
        ("openai/tts-1", {"voice": "marin"}, "voice 'marin'"),
        ("openai/tts-1", {"instructions": "softly"}, "no instructions"),
        ("openai/gpt-4o-mini-tts", {"voice": "Kore"}, "voice 'Kore'"),
        ("google/gemini-3.8-flash-tts", {"format": "mp3"}, "format 'mp3'"),
        ("openai/gpt-4o-mini-tts", {"text": "x" * 4_097}, "4,097 signs"),
    ],
)
def test_speech_that_cannot_be_made(model: str, wish: dict[str, str], said: str) -> None:
    with pytest.raises(InvalidArguments, match=said):
        check_speech(model, SpeechWish(**{"text": "hello"} | wish))


@pytest.mark.parametrize(
    ("ability", "model", "instead"),
    [
        ("make images", "anthropic/claude-haiku-4-5", "use openai/gpt-image"),
        ("transcribe", "perplexity/sonar", "use openai/gpt-transcribe"),
        ("embed", "anthropic/claude-haiku-4-5", "use openai/text-embedding"),
        ("speak", "openrouter/x", "use google/gemini"),
        ("moderate", "google/gemini-2.5-flash", "use openai/omni"),
    ],
)
def test_who_cannot_do_it(ability: Ability, model: str, instead: str) -> None:
    with pytest.raises(InvalidArguments, match=instead):
        refuse_unable(ability, model)


@pytest.mark.parametrize(
    ("provider", "texts", "sizes"),
    [
        ("openai", ["a"] * 2_048, [2_048]),
        ("openai", ["a"] * 2_049, [2_048, 1]),
        ("google", ["a"] * 250, [100, 100, 50]),
        ("openai", ["x" * 400_000] * 3, [1, 1, 1]),  # 300,000 tokens in one request
        ("openai", ["x" * 900_000], [1]),  # the provider says that it is too long
    ],
)
def test_texts_go_in_as_many_requests_as_they_need(provider: str, texts: list[str], sizes: list[int]) -> None:
    assert [len(part) for part in batches(provider, texts)] == sizes
