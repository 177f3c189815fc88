"""What the rules need of a network. A wait that is over raises TimeoutError, what else goes wrong OSError."""

from __future__ import annotations

import socket
import ssl
import time
from concurrent.futures import Future
from typing import Protocol, TypeVar

from fourlane.providers.http.errors import TransportError

__all__ = ["Network", "Stream", "seconds_left"]

T = TypeVar("T")


class Stream(Protocol):
    """A connection, with TLS where it is asked for."""

    async def read(self, max_bytes: int, seconds: float) -> bytes:
        """Some bytes; none at the end."""

    async def write(self, data: bytes, seconds: float) -> None: ...

    def is_silent(self) -> bool:
        """Whether nothing came since the last read, an end neither."""

    def close(self) -> None: ...


class Network(Protocol):
    async def answer(self, question: Future[T], seconds: float) -> T:
        """Wait for what a thread finds out; given up, it need not be found out any more."""

    async def dial(self, address: str, port: int, seconds: float) -> socket.socket: ...

    async def open(self, sock: socket.socket, tls: ssl.SSLContext | None, name: str, seconds: float) -> Stream: ...


def seconds_left(deadline: float) -> float:
    """Raises TransportError."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TransportError("timeout")
    return left
