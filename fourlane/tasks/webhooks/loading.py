"""Loads what delivers beside the event loop: it takes a second, in which no other delivery would go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["client", "ready"]

_done: Final[set[Callable[[], object]]] = set()


async def ready(*parts: Callable[[], object]) -> None:
    """Have these called, once in a process. Raises what they raise, and calls those again the next time."""
    if missing := [part for part in parts if part not in _done]:
        await asyncio.to_thread(_call, missing)


def _call(parts: list[Callable[[], object]]) -> None:
    for part in parts:
        part()
        _done.add(part)


def client() -> None:
    """What sends and signs. Producers load the tasks too, and need neither."""
    import standardwebhooks  # noqa: F401

    from fourlane.providers import http  # noqa: F401
