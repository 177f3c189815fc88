"""Links that nobody uses now, kept for callers that come and go: as many as there were threads that used one."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress

from fourlane.queues.redis.link import Link

__all__ = ["MOST_IDLE", "IdleLinks"]

MOST_IDLE = 256


class IdleLinks:
    """By the name of their server. Threads share them, a forked child has none."""

    def __init__(self) -> None:
        self._by_server: dict[str | None, deque[Link]] = {}
        self._pid = os.getpid()

    def of(self, server: str | None) -> deque[Link]:
        """To be taken from, and put back into, up to `MOST_IDLE`."""
        if os.getpid() != self._pid:  # a fork's parent owns those sockets
            self._by_server, self._pid = {}, os.getpid()
        links = self._by_server.get(server)
        if links is None:
            links = self._by_server.setdefault(server, deque())
        return links

    def close_oldest(self, links: deque[Link]) -> None:
        """Of one that is too many. Others may have taken it meanwhile."""
        with suppress(IndexError):
            links.popleft().close()

    def close(self) -> None:
        for links in list(self._by_server.values()):
            try:
                while True:  # other threads take some too
                    links.pop().close()
            except IndexError:
                pass
