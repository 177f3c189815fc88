"""Calls of AI that begin together begin one after the other, so that the event loop stays free for those under way."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final
from weakref import WeakKeyDictionary

__all__ = ["in_turn"]


async def in_turn() -> None:
    """Wait until it is our turn: one call in each round of the event loop. Alone, nobody waits.

    For what takes a millisecond: to check a call, to send its request. Of hundreds that begin together many would
    otherwise come in one round, and the pieces of answers that come meanwhile would wait for all of them.
    """
    loop = asyncio.get_running_loop()
    found = _starts.get(loop)
    if found is None:
        found = _starts[loop] = _Starts(loop)
    await found.turn()


class _Starts:
    """Those of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._future = loop.create_future
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False  # somebody begins in this round

    async def turn(self) -> None:
        if self._is_taken:
            turn = self._future()
            self._waiting.append(turn)
            await turn
        else:
            self._is_taken = True
            self._call_soon(self._next)

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else it was cancelled
                turn.set_result(None)
                self._call_soon(self._next)
                return
        self._is_taken = False


_starts: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Starts]] = WeakKeyDictionary()
