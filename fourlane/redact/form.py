"""What a secret looks like, and where in a text to look for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

__all__ = ["Form", "after", "by_words"]


class Form(NamedTuple):
    """``places``: where in a text, which is given in small letters too, one may begin; ``show``: what stands there
    instead."""

    places: Callable[[str, str], Iterable[int]]
    pattern: re.Pattern[str]
    show: Callable[[re.Match[str]], str]


def by_words(words: str, pattern: str, show: str | Callable[[re.Match[str]], str], flags: int = 0) -> Form:
    """It begins with one of these words, which are in small letters."""
    each = words.split()

    def places(_: str, lowered: str) -> Iterable[int]:
        return sorted([place for word in each if word in lowered for place in _places(lowered, word)])

    shown = show if callable(show) else (lambda found: found.expand(show))
    return Form(places, re.compile(pattern, flags), shown)


def _places(text: str, word: str) -> Iterator[int]:
    place = text.find(word)
    while place >= 0:
        yield place
        place = text.find(word, place + 1)


def after(words: str, sign: str = "") -> str:
    """A pattern: what stands before is one of these words, and a sign. They may be of unlike lengths."""
    return "(?:" + "|".join(f"(?<={word}{sign})" for word in words.split("|")) + ")"
