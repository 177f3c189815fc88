"""Turns at calling those who take so many calls a second, over all workers."""

from __future__ import annotations

import time
from typing import Final

from fourlane.errors import ProviderLimited
from fourlane.queues.store import Store

__all__ = ["Turns"]

_UNEVEN_MS: Final = 250  # on their way, calls lose their even distances


class Turns:
    """The turns that are kept in one Redis."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, provider: str, name: str, *, per_second: float, patience_seconds: float) -> None:
        """Wait for a turn.

        Parameters:
          name: of one account there.
          patience_seconds: the longest wait.

        Raises:
          ProviderLimited: it would take longer; says when to come again.
          RedisUnavailable
        """
        key = self._store.keys.turns(provider, name)
        args = (f"{(1000 + _UNEVEN_MS) / per_second:.3f}", int(patience_seconds * 1000))
        taken, wait_ms = self._store.connector.run("take_turn", (key,), args)
        if not taken:
            raise ProviderLimited(provider, wait_ms / 1000)
        time.sleep(wait_ms / 1000)
