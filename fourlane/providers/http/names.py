"""Looks names up, in threads: getaddrinfo takes no timeout, and a slow name server must keep nobody else waiting."""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter, deque
from concurrent.futures import Future
from typing import Final

__all__ = ["Names", "names", "registered_name"]

_MOST: Final = 256
_MOST_OF_ONE: Final = 8


class Names:
    """Up to so many look-ups at once, and so many of one registered name, whose owner decides how long they take."""

    def __init__(self, most: int = _MOST, most_of_one: int = _MOST_OF_ONE) -> None:
        self._most, self._most_of_one = most, most_of_one
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()
        self._waiting: deque[tuple[str, Future[list[str]]]] = deque()

    def ask(self, host: str) -> Future[list[str]]:
        """The addresses of a host; one that is cancelled before its turn is not looked up."""
        answer: Future[list[str]] = Future()
        with self._lock:
            self._waiting.append((host, answer))
            self._start()
        return answer

    def _start(self) -> None:
        later: list[tuple[str, Future[list[str]]]] = []
        while self._waiting and self._running.total() < self._most:
            host, answer = self._waiting.popleft()
            owner = registered_name(host)
            if self._running[owner] >= self._most_of_one:
                if not answer.cancelled():
                    later.append((host, answer))
            elif answer.set_running_or_notify_cancel():
                self._running[owner] += 1
                threading.Thread(target=self._run, args=(host, answer), name="fourlane-dns", daemon=True).start()
        self._waiting.extendleft(reversed(later))

    def _run(self, host: str, answer: Future[list[str]]) -> None:
        try:
            answer.set_result(_lookup(host))
        except Exception as error:
            answer.set_exception(error)
        owner = registered_name(host)
        with self._lock:
            self._running[owner] -= 1
            if not self._running[owner]:
                del self._running[owner]
            self._start()


def registered_name(host: str) -> str:
    """The part that somebody registered, as nearly as it can be told without a list of all suffixes."""
    labels = host.lower().rstrip(".").split(".")
    is_under_two = len(labels) > 2 and len(labels[-1]) == 2 and len(labels[-2]) <= 3  # co.uk, com.br
    return ".".join(labels[-3:] if is_under_two else labels[-2:])


def _lookup(host: str) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


_names = Names()


def names() -> Names:
    """Those of this process."""
    return _names


def _forget() -> None:
    """In a forked child: none of the parent's threads are here."""
    global _names
    _names = Names()


os.register_at_fork(after_in_child=_forget)
