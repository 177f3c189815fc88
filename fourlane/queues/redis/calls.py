"""Many calls of one script on one link, each done once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from fourlane.queues.redis.link import Link

__all__ = ["Calls"]


class Calls:
    """The calls of one ``run_each_once``. Those without a reply are made again on the next link, and no others."""

    def __init__(self, name: str, keys: Sequence[Any], batches: Iterable[Sequence[Any]], sent: bytes) -> None:
        self.name = name
        self.keys = keys
        self.batches = iter(batches)
        self.sent = sent
        self.replies: list[Any] = []
        self._open: deque[tuple[bytes, int, Sequence[Any]]] = deque()  # sent, the oldest first; two at most
        self._refused: deque[Sequence[Any]] = deque()

    def run(self, link: Link) -> None:
        """Each is sent before the reply to the one before is read, so the server works while we make the next one."""
        try:
            self._run_open(link)
            for args in self.batches:
                key, number = link.next_call(self.sent)
                self._open.append((key, number, args))
                link.send_script(self.name, (*self.keys, key), (number, *args))
                if len(self._open) > 1:
                    self._receive(link)
            while self._open:
                self._receive(link)
            while self._refused:
                self._open.append((*link.next_call(self.sent), self._refused.popleft()))
                self._run_open(link)
        except BaseException:
            link.close()  # replies may still come
            raise

    def _run_open(self, link: Link) -> None:
        while self._open:
            key, number, args = self._open[0]
            self.replies.append(link.run(self.name, (*self.keys, key), (number, *args)))
            self._open.popleft()

    def _receive(self, link: Link) -> None:
        reply = link.receive_script()
        _, _, args = self._open.popleft()
        if reply is None:
            self._refused.append(args)
        else:
            self.replies.append(reply)
