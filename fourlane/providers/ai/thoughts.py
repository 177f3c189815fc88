"""Thoughts that a model writes into its answer between ``<think>`` and ``</think>``, at its beginning."""

from __future__ import annotations

from typing import Final

__all__ = ["Thoughts"]

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class Thoughts:
    """Leaves them out of a text that comes in pieces."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "begin"
        self._thought = False

    def without(self, text: str) -> str:
        """What of a piece is the answer's."""
        if self._state == "answer":
            return text
        self._held += text
        if self._state == "begin":
            begun = self._held.lstrip()
            if len(begun) < len(_OPEN) and _OPEN.startswith(begun):
                return ""  # it may become one
            if not begun.startswith(_OPEN):
                return self.rest()
            self._state, self._held = "thought", begun[len(_OPEN) :]
        before, closed, after = self._held.partition(_CLOSE)
        if not closed:
            self._held = before[-len(_CLOSE) :]  # its end may be torn
            return ""
        self._state, self._held, self._thought = "begin", "", True
        return self.without(after)

    def rest(self) -> str:
        """What was held back and is no thought; all that follows is the answer's too."""
        if self._state == "thought":
            self._held = ""
        held = self._held.lstrip() if self._thought else self._held
        self._state, self._held = "answer", ""
        return held
