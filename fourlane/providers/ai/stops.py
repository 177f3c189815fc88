"""Stop words for models that take none: the answer's text ends before the first of them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Stops"]


class Stops:
    """Ends a text that comes in pieces. What the model says further is paid for, and not shown."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = [word for word in words if word]
        self._held = ""
        self._over = False

    def before(self, text: str) -> str:
        """What of a piece stands before a stop word, and cannot be the beginning of one."""
        if not self._words or not text:
            return text
        if self._over:
            return ""
        text = self._held + text
        found = [place for word in self._words if (place := text.find(word)) >= 0]
        if found:
            self._over, self._held = True, ""
            return text[: min(found)]
        begun = (size for word in self._words for size in range(1, len(word)) if text.endswith(word[:size]))
        shown = len(text) - max(begun, default=0)
        self._held = text[shown:]
        return text[:shown]

    def rest(self) -> str:
        """What was held back and became no stop word."""
        held, self._held = self._held, ""
        return held
