"""Models by name: short names, what the tasks ask for by default, and what to say of a name that is none.

Facts of models are in ``fourlane/providers/ai/catalogue.py``; what the settings say of them is asked of ``AiConfig``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from typing import Final

from fourlane.providers.ai import BASE_URLS
from fourlane.providers.ai.catalogue import End

__all__ = [
    "EMBEDDING_MODEL",
    "IMAGE_MODEL",
    "MODELS",
    "MODERATION_MODEL",
    "SPEECH_MODEL",
    "TEXT_MODEL",
    "TRANSCRIPTION_MODEL",
    "ends_soon",
    "is_model",
    "no_model",
    "retired",
    "today",
]

MODELS: Final[Mapping[str, str]] = {
    # The platform's names. One whose model has ended leads to what succeeds it, now or when its day comes.
    "gpt-4o": "openai/gpt-4o",
    "dall-e-3": "openai/dall-e-3",
    "whisper": "openai/whisper-1",
    "claude-sonnet-4.5": "anthropic/claude-sonnet-5-5",  # claude-sonnet-4-5 ends on 2026-11-30
    "claude-haiku-4.5": "anthropic/claude-haiku-4-5",
    "gemini-1.5-pro": "google/gemini-1.5-pro",
    "gemini-1.5-flash": "google/gemini-1.5-flash",
    "sonar": "perplexity/sonar",
    # Of today.
    "gpt-6-astra": "openai/gpt-6-astra",
    "gpt-6.1-sol": "openai/gpt-6.1-sol",
    "gpt-6.1-terra": "openai/gpt-6.1-terra",
    "gpt-6-luna": "openai/gpt-6-luna",
    "gpt-image-2.5-flare": "openai/gpt-image-2.5-flare",
    "gpt-image-2.5-sunburst": "openai/gpt-image-2.5-sunburst",
    "gpt-transcribe": "openai/gpt-transcribe",
    "text-embedding-3-small": "openai/text-embedding-3-small",
    "text-embedding-3-large": "openai/text-embedding-3-large",
    "omni-moderation-latest": "openai/omni-moderation-latest",
    "claude-fable-5.2": "anthropic/claude-fable-5-2",
    "claude-opus-5.5": "anthropic/claude-opus-5-5",
    "claude-sonnet-5.5": "anthropic/claude-sonnet-5-5",
    "claude-haiku-5.5": "anthropic/claude-haiku-5-5",
    "gemini-2.5-flash": "google/gemini-2.5-flash",
    "gemini-3.8-flash": "google/gemini-3.8-flash",
    "gemini-3.5-flash-lite": "google/gemini-3.5-flash-lite",
    "gemini-4-argon": "google/gemini-4-argon",
    "gemini-3.8-flash-tts": "google/gemini-3.8-flash-tts",
    "gemini-embedding-2": "google/gemini-embedding-2",
}
"""Models by their short names; others are named ``provider/model``."""

TEXT_MODEL: Final = "gpt-6-luna"  # what OpenAI names in the place of gpt-4o
IMAGE_MODEL: Final = "gpt-image-2.5-flare"
TRANSCRIPTION_MODEL: Final = "gpt-transcribe"
SPEECH_MODEL: Final = "gemini-3.8-flash-tts"
EMBEDDING_MODEL: Final = "text-embedding-3-small"
MODERATION_MODEL: Final = "omni-moderation-latest"

_SOON: Final = timedelta(days=30)


def is_model(full: str) -> bool:
    """Whether it may be one: a known provider, and a name that could be asked for. New models need no release."""
    provider, _, name = full.partition("/")
    return provider in BASE_URLS and name.isprintable() and bool(name) and not any(c.isspace() for c in name)


def no_model(given: str, names: Iterable[str]) -> str:
    """What to say of a name that is none."""
    provider, slash, _ = given.partition("/")
    if slash and provider not in BASE_URLS:
        return f"{given!r} is no model: there is no provider {provider!r}; use one of {', '.join(sorted(BASE_URLS))}"
    close = get_close_matches(given, {*names}, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{given!r} is no model; {meant}`fourlane ai models` lists short names, others are PROVIDER/MODEL"


def retired(full: str, end: End) -> str:
    """What to say of a model whose end has come."""
    return f"{full} was retired on {end.on}; " + (f"use {end.successor}" if end.successor else "use another model")


def ends_soon(end: End | None, today: date) -> bool:
    """Whether somebody should see to it now. One that has ended does not end."""
    return end is not None and today < end.on <= today + _SOON


def today() -> date:
    """By the clock of all providers."""
    return datetime.now(UTC).date()
