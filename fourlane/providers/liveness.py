"""Whether a call is alive: it is ended by silence, or by a total that the caller set. Never by its length alone.

A call that gives signs, as the pieces of a stream are, may take as long as they come. One that gives none is silent as
a whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

__all__ = ["Limits", "Signs", "watched"]

_HELD_UP_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a call may take, in seconds.

    Parameters:
      silence: between two signs of life.
      first: until the first of them; None: as long as between two.
      total: in all; None: no limit.
    """

    silence: float
    first: float | None = None
    total: float | None = None

    @property
    def until_first(self) -> float:
        """How long it may take until the first sign."""
        first = self.silence if self.first is None else self.first
        return first if self.total is None else min(first, self.total)

    def end(self, signs: Signs) -> tuple[float, str]:
        """When the call ends if no sign comes any more, by the monotonic clock, and what is said then."""
        if signs.last is not None:
            end, words = signs.last + self.silence, f"no piece for {self.silence:g} s"
        elif self.first is not None:
            end, words = signs.began + self.first, f"no first piece within {self.first:g} s"
        else:
            end, words = signs.began + self.silence, f"no answer within {self.silence:g} s"
        if self.total is not None and signs.began + self.total <= end:
            return signs.began + self.total, f"not done within {self.total:g} s in all"
        return end, words


@dataclass(slots=True)
class Signs:
    """When a call began and was heard of, by the monotonic clock; None: never yet."""

    began: float
    first: float | None = None
    last: float | None = None


@asynccontextmanager
async def watched(who: str, limits: Limits, signs: Signs) -> AsyncIterator[None]:
    """End what is done in it as its limits say. Raises TimeoutError, which says which of them it was.

    A timer looks at the signs when they would be too old, and not each time that one comes.
    """
    loop = asyncio.get_running_loop()
    words = ""
    timer: asyncio.TimerHandle

    def look(again: bool = False) -> None:
        nonlocal timer, words
        end, words = limits.end(signs)
        left = end - time.monotonic()
        if left > 0:
            timer = loop.call_later(left, look)
        elif again:
            limit.reschedule(loop.time())
        else:
            # A loop that was held up may have the pieces in its hands: it gets the time to give them.
            timer = loop.call_later(_HELD_UP_SECONDS, look, True)

    limit = asyncio.timeout(None)
    try:
        async with limit:
            look()
            try:
                yield
            finally:
                timer.cancel()
    except TimeoutError as error:
        if limit.expired():
            raise TimeoutError(f"{who}: {words}") from error
        raise
