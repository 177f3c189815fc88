"""What came back, in one form from all providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fourlane.errors import FourlaneError
from fourlane.providers.ai.question import Media, ToolCall
from fourlane.providers.ai.usage import NOTHING, Usage

__all__ = ["Answer", "Citation", "CutStream", "FailedAnswer", "Outcome"]

Outcome = Literal["ok", "truncated", "tool_calls", "refused", "blocked", "empty"]
"""How an answer ended.

ok: whole. truncated: cut at ``max_tokens`` or at the end of the model's window. tool_calls: it wants tools called.
refused: the model declines. blocked: the provider holds the answer or the question back. empty: it ended well and says
nothing.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A source that the answer names. ``start`` and ``end``: of the text that it stands for; -1: not told."""

    url: str = ""
    title: str = ""
    quote: str = ""
    start: int = -1
    end: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back.

    Parameters:
      text: without thoughts.
      finish: the provider's own word for how it ended; empty: it broke off.
      media: images or speech that were made.
      vectors: of an embedding.
      verdicts: of a moderation, one for each text: categories with their scores, and ``flagged``.
      raw: what ``ChatMessage.raw`` wants, where the provider wants its turn back.
      silence_ms: how long the provider wants no more calls, because its quota is used up.
      first_ms: until the first piece of it came.
    """

    outcome: Outcome = "ok"
    finish: str = ""
    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    citations: tuple[Citation, ...] = ()
    media: tuple[Media, ...] = ()
    vectors: tuple[tuple[float, ...], ...] = ()
    verdicts: tuple[Mapping[str, Any], ...] = ()
    usage: Usage = NOTHING
    raw: Mapping[str, Any] | None = None
    silence_ms: int = 0
    first_ms: int = 0


class CutStream(FourlaneError):
    """The answer broke off before its end.

    Attributes:
      answer: what had come; it is most likely paid for.
    """

    def __init__(self, message: str, answer: Answer) -> None:
        super().__init__(message)
        self.answer = answer


class FailedAnswer(FourlaneError):
    """The provider said amid the answer that it failed.

    Attributes:
      word: the provider's own for it, e.g. ``overloaded_error``, ``server_error`` or, of OpenRouter, ``502``.
    """

    def __init__(self, message: str, word: str) -> None:
        super().__init__(message)
        self.word = word
