"""What a model is asked, in one form for all providers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["ChatMessage", "Effort", "Media", "Question", "Tool", "ToolCall", "header_of"]

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_MOST_KEY: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An image, a file or a sound that goes to a model with a message.

    Parameters:
      media_type: e.g. ``image/png``, ``application/pdf``, ``audio/mpeg``.
      name: of the file, as the model may see it.
    """

    media_type: str
    data: bytes
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A model wants a tool called.

    Parameters:
      id: the provider's own; its answer names it.
      arguments: JSON text, as the model wrote it; not checked.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool that a model may call; ``parameters`` is a JSON Schema of an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One turn of a conversation.

    Parameters:
      role: ``tool``: the answer to the tool call ``call_id``.
      calls: what the assistant wanted called.
      raw: the assistant's turn as its provider gave it, which wants it back like that (signed thoughts, reasoning
        items): ``{"provider": …, "model": …, "content": …}``, JSON only; another model's is left out.
    """

    role: Literal["user", "assistant", "tool"]
    text: str = ""
    media: tuple[Media, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    raw: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a model is asked.

    Parameters:
      model: the provider's own name of it.
      max_tokens: of the answer, thoughts included.
      temperature, seed, effort: None: the provider's own. Where a model refuses one it is left out.
      schema: a JSON Schema that the text of the answer shall keep.
      must_call: a tool must be called.
      cache: have the provider cache what stands at the beginning: system, tools, all but the last message.
      idempotency_key: sent as a header, but to Google, whose SDK and API have none.
    """

    model: str
    messages: tuple[ChatMessage, ...]
    system: str | None = None
    max_tokens: int = 1_024
    temperature: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    effort: Effort | None = None
    tools: tuple[Tool, ...] = ()
    must_call: bool = False
    schema: Mapping[str, Any] | None = None
    cache: bool = False
    idempotency_key: str


def header_of(key: str) -> dict[str, str]:
    """The header of an idempotency key."""
    if not (key.isascii() and key.isprintable() and len(key) <= _MOST_KEY):  # no header can carry it
        key = f"fourlane-{hashlib.sha256(key.encode()).hexdigest()}"
    return {"Idempotency-Key": key}
