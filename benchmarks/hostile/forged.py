"""Webhooks that nobody sent: forged signatures, odd bytes and numbers, bodies that never end."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Final

__all__ = ["flood"]

_ANSWER_SECONDS: Final = 20.0
_DRIPS: Final = 40

_BODIES: Final[tuple[bytes, ...]] = (
    b'{"id": "evt_bird_1", "type": "invoice.paid", "data": {"object": {"id": "in_1"}}}',
    b'{"id": NaN, "type": Infinity}',
    b"\xff\xfe\0" * 50,
    b"[" * 50_000,
    b"",
    b"x" * 600_000,
    b'{"id": "\\ud800", "type": "invoice.paid", "created": 1e999}',
)
_HEADERS: Final[tuple[bytes, ...]] = (
    b"Stripe-Signature: t=%d,v1=" + b"0" * 64,
    b"Stripe-Signature: t=99999999999999999999999,v1=00,t=-1",
    b"Stripe-Signature: \xed\xa0\x80,\xff=,t=NaN,v1=",
    b"Stripe-Signature: " + b"v1=00," * 5_000 + b"t=1",
    b"X-Webhook-Secret: \xc3\xa9\xff",
    b"Authorization: Bearer " + b"x" * 5_000,
    b"Webhook-Id: evt_bird_1\r\nWebhook-Timestamp: 1e3\r\nWebhook-Signature: v1,AAAA v2,\xff",
    b"Paypal-Transmission-Id: x\r\nPaypal-Transmission-Time: 2026-13-45\r\nPaypal-Cert-Url: http://127.0.0.1/x",
    b"X-Forwarded-For: 127.0.0.2, \xff, 999.1.1.1:x",
    b"X-Nothing: 1",
)
_PATHS: Final = (b"stripe", b"paypal", b"supabase", b"nobody", b"stripe/../x", b"%ff%00")


async def flood(port: int, seconds: float, rate: float) -> Counter[str]:
    """So many a second; how many were answered by what."""
    heard: Counter[str] = Counter()
    drips = [asyncio.create_task(_drip(port, heard)) for _ in range(_DRIPS)]
    calls: set[asyncio.Task[None]] = set()
    chance = random.Random(1)
    began = time.monotonic()
    for number in itertools.count():
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        if time.monotonic() - began > seconds:
            break
        call = asyncio.create_task(_send(port, _request(chance), heard))
        calls.add(call)
        call.add_done_callback(calls.discard)
    for drip in drips:
        drip.cancel()
    if calls:
        await asyncio.wait(calls)
    await asyncio.gather(*drips, return_exceptions=True)
    return heard


def _request(chance: random.Random) -> bytes:
    body, header, path = chance.choice(_BODIES), chance.choice(_HEADERS), chance.choice(_PATHS)
    if b"%d" in header:
        header = header % int(time.time())
    return (
        b"POST /api/webhooks/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n\r\n%s"
        % (path, len(body), header, body)
    )  # fmt: skip


async def _send(port: int, request: bytes, heard: Counter[str]) -> None:
    word: Any = "unanswered"
    writer = None
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            line = await reader.readline()
            word = line.split(b" ")[1].decode() if line.count(b" ") > 1 else "closed"
    if writer is not None:
        writer.close()
    heard[f"forged answered {word}"] += 1


async def _drip(port: int, heard: Counter[str]) -> None:
    """A byte a second, again and again."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"POST /api/webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
                answer = asyncio.create_task(reader.readline())
                while not answer.done():
                    writer.write(b"x")
                    await asyncio.wait([answer], timeout=1)
                heard[f"dripping answered {answer.result()[9:12].decode() or 'closed'}"] += 1
            finally:
                writer.close()
        await asyncio.sleep(0.1)
