"""What the doctor says of each thing that it looked at."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

__all__ = ["NEAR", "NOT_ALLOWED", "Finding", "Level", "some"]

NEAR: Final = 0.8
"""Of a limit, from where on it is told."""
NOT_ALLOWED: Final = "not allowed to look"
_SHOWN: Final = 5


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    level: Level
    name: str
    text: str
    fix: str = ""


def some(names: Sequence[str]) -> str:
    """The first of them."""
    return ", ".join(sorted(names)[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
