"""Which provider can do what, beside conversations. Models of next month need no release: only providers are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from fourlane.errors import InvalidArguments

__all__ = ["Ability", "refuse_unable"]

Ability = Literal["make images", "transcribe", "speak", "embed", "moderate"]

# With a model of each that can be named to who asks.
_ABLE: Final[Mapping[Ability, Mapping[str, str]]] = {
    "make images": {
        "openai": "gpt-image-2.5-flare",
        "google": "gemini-3.1-flash-image",
        "openrouter": "google/gemini-3.1-flash-image",
    },
    "transcribe": {"openai": "gpt-transcribe"},
    "speak": {"google": "gemini-3.8-flash-tts", "openai": "gpt-4o-mini-tts"},
    "embed": {
        "openai": "text-embedding-3-small",
        "google": "gemini-embedding-2",
        "openrouter": "openai/text-embedding-3-small",
    },
    "moderate": {"openai": "omni-moderation-latest"},
}


def refuse_unable(ability: Ability, full: str) -> None:
    """Raises InvalidArguments: the provider of a model (``provider/model``) has nothing of the kind."""
    able = _ABLE[ability]
    if full.partition("/")[0] not in able:
        those = " or ".join(f"{provider}/{model}" for provider, model in able.items())
        raise InvalidArguments(f"{full} cannot {ability}; use {those}")
