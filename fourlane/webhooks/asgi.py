"""The receiving endpoint, for any ASGI server or framework: ``POST /api/webhooks/{stripe,paypal,supabase}``.

uvicorn --factory fourlane.webhooks.asgi:from_settings
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, Final

from fourlane.errors import FourlaneError
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

    return _Endpoint(receiver, proxies, _Room(_MOST_BYTES))


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


@dataclass(frozen=True, slots=True)
class _Endpoint:
    receiver: Receiver
    proxies: int
    room: _Room

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["type"] == "http" and (answer := await self._answer(scope, receive)) is not None:
            headers = [(name.lower().encode(), value.encode()) for name, value in headers_of(answer)]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Message, receive: Receive) -> Answer | None:
        """None when the sender left in the middle."""
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        headers = _headers(scope)
        length, provider = headers.get("content-length", ""), path.removeprefix(PATH)
        address = sender((scope.get("client") or ("",))[0], headers.get("x-forwarded-for", ""), self.proxies)
        answer = misdirected(scope["method"], path, length) or await asyncio.to_thread(
            self.receiver.admit, provider, address=address, length=length_of(length)
        )
        if answer is not None:
            return _last(answer, scope, headers)
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                if not await _read(receive, body, self.receiver.max_bytes, self.room):
                    return None
            answer = await asyncio.to_thread(self.receiver.take, provider, headers, bytes(body), address=address)
            return _last(answer, scope, headers) if len(body) > self.receiver.max_bytes else answer
        except TimeoutError:
            late = await asyncio.to_thread(self.receiver.gave_up, provider, BODY_SECONDS, address=address)
            return _last(late, scope, headers)
        except _Full:
            return _last(answer_of(503, _AGAIN_SECONDS), scope, headers)
        finally:
            self.room.left += len(body)


def _last(answer: Answer, scope: Message, headers: Mapping[str, str]) -> Answer:
    """An answer with which the connection ends: what is left of the body is not read."""
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if not has_body or not scope.get("http_version", "").startswith("1"):
        return answer
    return replace(answer, headers=(*answer.headers, ("Connection", "close")))


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


class _Full(FourlaneError):
    """There is no room for another piece now."""
