"""The receiving endpoint, for any ASGI server or framework: ``POST /api/webhooks/{stripe,paypal,supabase}``.

uvicorn --factory fourlane.webhooks.asgi:from_settings
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from fourlane.root import root
from fourlane.webhooks.address import sender
from fourlane.webhooks.endpoint import BODY_SECONDS, PATH, headers_of, length_of, misdirected
from fourlane.webhooks.receive import Answer, Receiver, answer_of
from fourlane.webhooks.setup import receiver

__all__ = ["application", "from_settings"]

_MOST_BYTES: Final = 67_108_864
_AGAIN_SECONDS: Final = 10

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGI = Callable[[Message, Receive, Send], Awaitable[None]]


def application(receiver: Receiver, *, proxies: int = 0) -> ASGI:
    """The endpoint. Requests wait for Redis in threads, and not on the event loop.

    Parameters:
      proxies: how many proxies of ours add to ``X-Forwarded-For``; with 0 the header is not believed.
    """

    room = _Room(_MOST_BYTES)

    async def serve(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["type"] == "http" and (answer := await _answer(receiver, scope, receive, room, proxies)) is not None:
            headers = [(name.lower().encode(), value.encode()) for name, value in headers_of(answer)]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})

    return serve


def from_settings() -> ASGI:
    """The endpoint as the settings describe it. Raises SettingsError."""
    return application(root().part(receiver), proxies=root().settings.webhook_proxies)


async def _live(receive: Receive, send: Send) -> None:
    """There is nothing to begin or to end."""
    while True:
        phase = (await receive())["type"].rpartition(".")[2]
        await send({"type": f"lifespan.{phase}.complete"})
        if phase == "shutdown":
            return


async def _answer(receiver: Receiver, scope: Message, receive: Receive, room: _Room, proxies: int) -> Answer | None:
    """None when the sender left in the middle."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    headers = _headers(scope)
    length = headers.get("content-length", "")
    answer = misdirected(scope["method"], path, length)
    if answer is not None:
        return answer
    provider = path.removeprefix(PATH)
    address = sender((scope.get("client") or ("",))[0], headers.get("x-forwarded-for", ""), proxies)
    answer = await asyncio.to_thread(receiver.admit, provider, address=address, length=length_of(length))
    if answer is not None:
        return answer
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            whole = await _read(receive, body, receiver.max_bytes, room)
        if not whole:
            return None
        return await asyncio.to_thread(receiver.take, provider, headers, bytes(body), address=address)
    except TimeoutError:
        return await asyncio.to_thread(receiver.gave_up, provider, BODY_SECONDS, address=address)
    except _Full:
        return answer_of(503, _AGAIN_SECONDS)
    finally:
        room.left += len(body)


def _headers(scope: Message) -> dict[str, str]:
    headers: dict[str, list[str]] = defaultdict(list)
    for name, value in scope["headers"]:
        headers[name.decode("latin-1").lower()].append(value.decode("latin-1"))
    return {name: ", ".join(values) for name, values in headers.items()}


async def _read(receive: Receive, body: bytearray, most: int, room: _Room) -> bool:
    """Read the body; of one that is too large, no more than says so. False when the sender left in the middle."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        piece = message.get("body", b"")[: most + 1 - len(body)]
        if len(piece) > room.left:
            raise _Full
        room.left -= len(piece)
        body += piece
        if len(body) > most or not message.get("more_body", False):
            return True


@dataclass(slots=True)
class _Room:
    """Memory for the bodies that are being read, of one event loop: who sends many slowly does not fill it."""

    left: int


class _Full(Exception):
    """There is no room for another piece now."""
