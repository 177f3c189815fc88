"""Reads JSON that a person wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

__all__ = ["read_json"]


def read_json(text: str, of_pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """What it says. ``of_pairs`` makes an object. Raises ValueError, also for what could not be written again."""
    try:
        value = json.loads(text, object_pairs_hook=of_pairs)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("it has half a letter in it, which nothing can carry") from None
    return value
