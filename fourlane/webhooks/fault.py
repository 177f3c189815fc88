"""A fault of ours, told in bounded words: who can cause it again and again must not fill the log."""

from __future__ import annotations

import traceback
from typing import Final

__all__ = ["told"]

_FRAMES: Final = 8
_CHARACTERS: Final = 300


def told(error: BaseException) -> str:
    """What it says, and the last steps that led to it: a recursion has a thousand."""
    steps = "".join(traceback.format_tb(error.__traceback__, -_FRAMES))
    return f"{type(error).__name__}: {ascii(str(error))[1:-1][:_CHARACTERS]}\n{steps}".rstrip()
