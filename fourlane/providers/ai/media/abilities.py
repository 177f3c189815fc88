"""Who can do what, beside conversations. Models of next month need no release: of one that nobody knows its provider
decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from fourlane.errors import InvalidArguments
from fourlane.providers.ai.catalogue import Kind

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


_KINDS: Final[Mapping[Ability, Kind]] = {
    "make images": "image",
    "transcribe": "transcription",
    "speak": "speech",
    "embed": "embedding",
    "moderate": "moderation",
}


def refuse_unable(ability: Ability, full: str, kind: Kind | None = None) -> None:
    """Raises InvalidArguments: a model (``provider/model``) is of another kind, or its provider has none of this.

    Parameters:
      kind: of the model, where it is known.
    """
    able = _ABLE[ability]
    if full.partition("/")[0] not in able or kind not in (None, _KINDS[ability]):
        those = " or ".join(f"{provider}/{model}" for provider, model in able.items())
        raise InvalidArguments(f"{full} cannot {ability}; use {those}")
