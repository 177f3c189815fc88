"""Links that nobody uses now, kept for callers that come and go: as many as there were threads that used one."""

from __future__ import annotations

import os
from collections import deque
from typing import Any, Final

from fourlane.queues.redis.link import Link

__all__ = ["IdleLinks"]

_MOST: Final = 256


class IdleLinks:
    """By the name of their server. Threads share them, a forked child has none."""

    def __init__(self) -> None:
        self._by_server: dict[Any, deque[Link]] = {}
        self._pid = os.getpid()

    def take(self, server: str | None) -> Link | None:
        """None when there is none."""
        try:
            return self._of(server).pop()
        except IndexError:
            return None

    def put(self, server: str | None, link: Link) -> None:
        links = self._of(server)
        if link.is_open and len(links) < _MOST:
            links.append(link)
        else:
            link.close()

    def close(self) -> None:
        for links in list(self._by_server.values()):
            try:
                while True:  # other threads take some too
                    links.pop().close()
            except IndexError:
                pass

    def _of(self, server: str | None) -> deque[Link]:
        if os.getpid() != self._pid:  # a fork's parent owns those sockets
            self._by_server, self._pid = {}, os.getpid()
        links = self._by_server.get(server)
        if links is None:
            links = self._by_server.setdefault(server, deque())
        return links
