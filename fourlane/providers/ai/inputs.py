"""What goes to a model with its messages, as all protocols write it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from fourlane.providers.ai.question import ChatMessage, Media

__all__ = ["audio_format", "base64_of", "data_url", "own_turn", "turns", "with_texts"]

_TEXTS: Final = frozenset({"application/json", "application/xml", "application/yaml", "application/x-yaml"})
_AUDIO: Final = {"mpeg": "mp3", "mp3": "mp3", "wave": "wav", "wav": "wav", "x-wav": "wav", "vnd.wave": "wav"}


def base64_of(media: Media) -> str:
    return base64.b64encode(media.data).decode("ascii")


def data_url(media: Media) -> str:
    return f"data:{media.media_type};base64,{base64_of(media)}"


def audio_format(media: Media) -> str:
    """As OpenAI names it: ``mp3`` or ``wav``, else the type's own word."""
    kind = media.media_type.partition("/")[2]
    return _AUDIO.get(kind, kind)


def with_texts(message: ChatMessage) -> tuple[str, tuple[Media, ...]]:
    """A message's text with the files that are texts themselves written before it, and its other files.

    No protocol takes each kind of text as a file; all take it as text.
    """
    texts, others = [], []
    for media in message.media:
        if media.media_type.startswith("text/") or media.media_type.partition(";")[0] in _TEXTS:
            name = f"{media.name}:\n" if media.name else ""
            texts.append(f"{name}{media.data.decode('utf-8', 'replace')}\n\n")
        else:
            others.append(media)
    return "".join(texts) + message.text, tuple(others)


def own_turn(message: ChatMessage, provider: str, model: str) -> Any:
    """The turn as this model wrote it; None where it is of another, which could not read it."""
    raw = message.raw or {}
    return raw.get("content") if (raw.get("provider"), raw.get("model")) == (provider, model) else None


def turns(messages: Sequence[ChatMessage]) -> Iterator[tuple[bool, list[ChatMessage]]]:
    """The messages by turn, and whether it is the model's: answers of tools and words of the user are one turn."""
    for of_model, several in groupby(messages, key=lambda message: message.role == "assistant"):
        yield of_model, list(several)
