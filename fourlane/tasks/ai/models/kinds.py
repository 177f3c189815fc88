"""What models are for, so far as it is known: one that cannot do what is asked is refused before anybody pays."""

from __future__ import annotations

from typing import Final

from fourlane.errors import InvalidArguments
from fourlane.providers.ai.catalogue import Kind, kind_of
from fourlane.tasks.ai.models.names import MODELS, TEXT_MODEL
from fourlane.tasks.ai.money.prices import priced_models

__all__ = ["known_kind", "refuse_wordless"]

_MIXED: Final = frozenset({"google", "openrouter"})
"""Providers whose models for images write text too."""


def known_kind(full: str) -> Kind | None:
    """What a model is for; None: its name does not say, and nobody lists it. OpenRouter's names say nothing of text."""
    kind = kind_of(full)
    if kind != "text":
        return kind
    listed = full in MODELS.values() or (not full.startswith("openrouter/") and full in priced_models())
    return "text" if listed else None


def refuse_wordless(full: str) -> None:
    """Raises InvalidArguments: the model does not write text."""
    kind = kind_of(full)
    if kind != "text" and not (kind == "image" and full.partition("/")[0] in _MIXED):
        raise InvalidArguments(f"{full} is for {_FOR[kind]} and answers no prompt; use {TEXT_MODEL}")


_FOR: Final = {
    "image": "images (ai.image)",
    "speech": "speech (ai.speak)",
    "transcription": "transcriptions (ai.transcribe)",
    "embedding": "embeddings (ai.embed)",
    "moderation": "moderation (ai.moderate)",
}
