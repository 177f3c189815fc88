"""Calls from coroutines: the rules on the running event loop, thousands at once."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Final, SupportsIndex, TypeVar

from fourlane.providers.http.call import Bounds, Response, call
from fourlane.providers.http.idle import Idle
from fourlane.providers.http.network import Network, Stream

__all__ = ["aclose", "apost"]

T = TypeVar("T")

_BUFFER_BYTES: Final = 65_536
# A worker's loop ends with its process; whoever ends one before calls `aclose`.
_idle: dict[asyncio.AbstractEventLoop, Idle] = {}


async def apost(
    url: str,
    *,
    body: bytes,
    headers: Mapping[str, str],
    timeout_seconds: float,
    allow_private: bool,
    max_redirects: int = 3,
    keep_body_bytes: int = 2048,
) -> Response:
    """As `threads.post`."""
    bounds = Bounds(
        timeout_seconds=timeout_seconds,
        allow_private=allow_private,
        max_redirects=max_redirects,
        keep_body_bytes=keep_body_bytes,
    )
    loop = asyncio.get_running_loop()
    idle = _idle.get(loop)
    if idle is None:
        idle = _idle[loop] = Idle()
    return await call(_ON_LOOP, idle, "POST", url, headers=headers, body=body, bounds=bounds)


async def aclose() -> None:
    """Close this event loop's connections; the next call opens new ones. Before a loop ends."""
    idle = _idle.pop(asyncio.get_running_loop(), None)
    if idle is not None:
        idle.close()
        await asyncio.sleep(0)  # transports close in the loop's next step


class _OnLoop:
    """A network whose every wait leaves the loop to others."""

    async def answer(self, question: Future[T], seconds: float) -> T:
        async with asyncio.timeout(seconds):
            return await asyncio.wrap_future(question)

    async def dial(self, address: str, port: int, seconds: float) -> socket.socket:
        return await _dial(address, port, seconds)

    async def open(self, sock: socket.socket, tls: ssl.SSLContext | None, name: str, seconds: float) -> Stream:
        loop = asyncio.get_running_loop()
        reader = _Reader(limit=_BUFFER_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        async with asyncio.timeout(seconds):
            transport, _ = await loop.create_connection(
                lambda: protocol, sock=sock, ssl=tls, server_hostname=None if tls is None else name
            )
        return _LoopStream(reader, asyncio.StreamWriter(transport, protocol, reader, loop))


_ON_LOOP: Network = _OnLoop()


class _Reader(asyncio.StreamReader):
    """Knows whether anything came since the last read; what came before a connection was lost can still be read."""

    was_fed = False
    has_data = False

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        self.was_fed = self.has_data = True
        super().feed_data(data)

    def feed_eof(self) -> None:
        self.was_fed = True
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        if self.has_data:
            self.feed_eof()
        else:
            super().set_exception(exc)

    async def read(self, n: int = -1) -> bytes:
        data = await super().read(n)
        self.was_fed = self.has_data = False
        return data


class _LoopStream:
    def __init__(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, max_bytes: int, seconds: float) -> bytes:
        async with asyncio.timeout(seconds):
            return await self._reader.read(max_bytes)

    async def write(self, data: bytes, seconds: float) -> None:
        self._writer.write(data)
        async with asyncio.timeout(seconds):
            await self._writer.drain()

    def is_silent(self) -> bool:
        return not self._reader.was_fed and not self._writer.is_closing()

    def close(self) -> None:
        self._writer.transport.abort()


async def _dial(address: str, port: int, seconds: float) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock
