"""Replies that are flat in protocol 2 of Redis, and nested or a map in protocol 3."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

__all__ = ["fields", "pairs", "scored"]


def scored(reply: Any) -> list[tuple[str, int]]:
    """Members and scores of a WITHSCORES reply."""
    return [(member.decode(errors="replace"), int(float(score))) for member, score in pairs(reply)]


def fields(reply: Any) -> dict[str, bytes]:
    """A hash."""
    return {name.decode(errors="replace"): value for name, value in pairs(reply)}


def pairs(reply: Any) -> Iterator[tuple[Any, Any]]:
    """What comes two by two."""
    if isinstance(reply, dict):
        yield from reply.items()
    elif reply and isinstance(reply[0], (list, tuple)):
        yield from ((first, second) for first, second in reply)
    else:
        flat = iter(reply)
        while pair := tuple(islice(flat, 2)):
            yield pair[0], pair[1]
