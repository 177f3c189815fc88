"""Receivers of webhooks that do their worst. One server; the first part of the path says what it does."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

__all__ = ["KINDS", "serve"]

_BOMB: Final = gzip.compress(b"\0" * 50_000_000)
_LONG: Final = 3_600.0


class _Call:
    """A request that came, to be answered or not."""

    def __init__(self, path: str, writer: asyncio.StreamWriter, redis_port: int) -> None:
        self.path, self.redis_port = path, redis_port
        self._writer = writer

    async def say(self, text: str | bytes) -> None:
        self._writer.write(text.encode() if isinstance(text, str) else text)
        await self._writer.drain()

    async def answer(self, status: str, headers: str = "", body: bytes = b"") -> None:
        await self.say(f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def redirect(self, where: str) -> None:
        await self.answer("307 Temporary Redirect", f"Location: {where}\r\n")

    def reset(self) -> None:
        found: socket.socket = self._writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _slow(call: _Call) -> None:
    await asyncio.sleep(25)
    await call.answer("200 OK")


async def _hang(call: _Call) -> None:
    await asyncio.sleep(_LONG)


async def _drip(call: _Call) -> None:
    await call.say("HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        await call.say("x")
        await asyncio.sleep(0.5)


async def _interim(call: _Call) -> None:
    while True:
        await call.say("HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n")
        await asyncio.sleep(0.01)


async def _headers(call: _Call) -> None:
    await call.say("HTTP/1.1 200 OK\r\n")
    number = 0
    while True:
        number += 1
        await call.say(f"X-{number}: {'x' * 8_000}\r\n")


async def _body(call: _Call) -> None:
    await call.say("HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await call.say(b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n")


async def _close(call: _Call) -> None:
    """At once."""


async def _reset(call: _Call) -> None:
    call.reset()


KINDS: Final[dict[str, Callable[[_Call], Awaitable[None]]]] = {
    "slow": _slow,
    "hang": _hang,
    "drip": _drip,
    "interim": _interim,
    "headers": _headers,
    "body": _body,
    "close": _close,
    "reset": _reset,
    "loop": lambda call: call.redirect(call.path),
    "metadata": lambda call: call.redirect("http://169.254.169.254/latest/meta-data/"),
    "redis": lambda call: call.redirect(f"http://127.0.0.1:{call.redis_port}/"),
    "later": lambda call: call.answer("503 Busy", "Retry-After: 3600\r\n"),
    "bomb": lambda call: call.answer("200 OK", "Content-Encoding: gzip\r\n", _BOMB),
    "broken": lambda call: call.answer("500 Broken", body=b"\xff\0" * 5_000),
    "gone": lambda call: call.answer("410 Gone"),
    "garbage": lambda call: call.say(b"\x16\x03\x01 no HTTP \0\r\n\r\n"),
}


async def serve(port: int, redis_port: int, seen: Counter[str]) -> None:
    """Serve until cancelled; ``seen`` counts the calls of each kind."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ")[1]
            kind = path.split("/")[1]
            seen[f"called {kind}"] += 1
            await KINDS[kind](_Call(path, writer, redis_port))
        with suppress(OSError):
            writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", port, backlog=1_000) as server:
        await server.serve_forever()
