"""What one event of a streamed answer says, and the answer that they make together."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fourlane.providers.ai.answer import Answer, Citation, Outcome
from fourlane.providers.ai.outcomes import unknown
from fourlane.providers.ai.question import ToolCall
from fourlane.providers.ai.usage import NOTHING, Usage

__all__ = ["Gathered", "Piece"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What one event of a stream says; what is left out: nothing new. Later words count.

    Parameters:
      alive: it is a piece of the answer though it carries no text: a thought, or arguments of a tool.
      outcome: what ``finish`` means; None with a ``finish``: nobody knows the word.
    """

    text: str = ""
    alive: bool = False
    usage: Usage | None = None
    outcome: Outcome | None = None
    finish: str = ""
    calls: tuple[ToolCall, ...] = ()
    citations: tuple[Citation, ...] = ()
    raw: Mapping[str, Any] | None = None
    silence_ms: int = 0


class Gathered:
    """The pieces of one answer so far."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []
        self._citations: list[Citation] = []
        self._usage = NOTHING
        self._outcome: Outcome | None = None
        self._finish = ""
        self._raw: Mapping[str, Any] | None = None
        self._silence_ms = 0
        self._first_ms = 0
        self._half = ""

    def add(self, piece: Piece) -> str:
        """Take a piece; what of its text is whole and may be shown."""
        text = self._joined(piece.text)
        if (text or piece.alive) and not self._first_ms:
            self._first_ms = max(1, int((time.monotonic() - self._started) * 1000))
        if text:
            self._texts.append(text)
        self._calls += piece.calls
        self._citations += piece.citations
        if piece.usage is not None:
            self._usage = self._usage.newer(piece.usage)
        self._outcome = piece.outcome or self._outcome
        self._finish = piece.finish or self._finish
        self._raw = piece.raw or self._raw
        self._silence_ms = piece.silence_ms or self._silence_ms
        return text

    def _joined(self, text: str) -> str:
        """Text without lone surrogates: a pair that two chunks tore apart is joined, others become U+FFFD."""
        if not text:
            return ""
        if not self._half and text.isascii():  # nearly always
            return text
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        whole = text[: len(text) - len(self._half)]
        return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def rest(self) -> str:
        """What is left of the text when no more comes: the half of a letter, as U+FFFD."""
        if not self._half:
            return ""
        self._half = ""
        self._texts.append("\ufffd")
        return "\ufffd"

    def answer(self) -> Answer:
        """All of it; ``finish`` is empty where it broke off."""
        self.rest()
        text = "".join(self._texts)
        outcome = self._outcome or ("ok" if not self._finish else unknown(bool(text.strip() or self._calls)))
        if outcome == "ok":
            outcome = "tool_calls" if self._calls else "ok" if text.strip() else "empty"
        return Answer(
            outcome=outcome,
            finish=self._finish,
            text=text,
            calls=tuple(self._calls),
            citations=tuple(dict.fromkeys(self._citations)),
            usage=self._usage,
            raw=self._raw,
            silence_ms=self._silence_ms,
            first_ms=self._first_ms,
        )
