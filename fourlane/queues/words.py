"""Errors as text that Redis and JSON can carry, without secrets. These never raise, in whatever state an error is."""

from __future__ import annotations

import traceback
from typing import Final

from fourlane.redact import without_secrets

__all__ = ["UNSAID", "WORDS_CHARACTERS", "kept_trace", "text_of", "trace_of", "words_of", "writable"]

WORDS_CHARACTERS: Final = 1_000
_TRACEBACK_CHARACTERS: Final = 8_000
_MARGIN: Final = 2_000
"""What is read beyond what is kept, so that no half of a secret is, which nobody would know to be one."""


def text_of(error: BaseException) -> str:
    """What it says, without its type."""
    try:
        text = str(error)
    except BaseException as unsaid:
        text = f"<its text cannot be had: {type(unsaid).__name__}>"
    return writable(without_secrets(text[: WORDS_CHARACTERS + _MARGIN])[:WORDS_CHARACTERS])


UNSAID: Final = "(what it says is not kept: the job is encrypted)"


def words_of(error: BaseException, *, unsaid: bool = False) -> str:
    """Its type and what it says; ``unsaid``: that may hold the arguments of an encrypted job."""
    name = type(error).__name__
    if unsaid:
        return f"{name} {UNSAID}"
    text = text_of(error)
    return f"{name}: {text}"[:WORDS_CHARACTERS] if text else name


def trace_of(error: BaseException, *, unsaid: bool = False) -> str:
    """The end of its traceback."""
    try:
        if unsaid:
            text = "".join([*traceback.format_tb(error.__traceback__), words_of(error, unsaid=True)])
        else:
            text = "".join(traceback.format_exception(error))
    except BaseException as unsaid:
        text = f"<its traceback cannot be had: {type(unsaid).__name__}>\n"
    return kept_trace(text)


def kept_trace(text: str) -> str:
    """The end of a traceback that somebody else wrote."""
    return writable(without_secrets(text[-_TRACEBACK_CHARACTERS - _MARGIN :])[-_TRACEBACK_CHARACTERS:])


def writable(text: str) -> str:
    """Without lone surrogates (a file's name that is not UTF-8), which nothing can carry."""
    return text.encode("utf-8", "backslashreplace").decode()
