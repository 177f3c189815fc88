"""Secrets by their value: those that this process was told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, quote_plus

from fourlane.redact.keys import REDACTED

__all__ = ["know", "without_known"]

_SHORT: Final = 8
_WORD: Final = 20

_known: tuple[str, ...] = ()


def know(values: Iterable[str]) -> None:
    """Secrets of this process: in whatever form they stand in a text, they are taken out from now on.

    What may be a word of other texts is not: short ones, and letters alone.
    """
    global _known
    given = {*values}
    told = given | {value.strip() for value in given}
    forms = {form for value in told if _is_no_word(value.strip()) for form in _spelled(value)}
    if not forms <= {*_known}:
        _known = tuple(sorted({*_known, *forms}, key=len, reverse=True))  # one may be part of another


def without_known(text: str) -> str:
    for value in _known:
        if value in text:
            text = text.replace(value, REDACTED)
    return text


def _is_no_word(value: str) -> bool:
    return len(value) >= _WORD or (len(value) >= _SHORT and not value.isalpha())


def _spelled(value: str) -> set[str]:
    """As it stands in a message, a repr, JSON, a URL."""
    escaped = {value, repr(value)[1:-1], repr(value.encode(errors="replace"))[2:-1], json.dumps(value)[1:-1]}
    return (
        escaped
        | {spell(value, errors="replace") for spell in (quote, quote_plus)}
        | {quote(value, safe="", errors="replace")}
    )
