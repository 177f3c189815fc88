"""The receiving endpoint, for any ASGI server or framework: ``POST /api/webhooks/{stripe,paypal,supabase}``.

uvicorn --factory fourlane.webhooks.asgi:from_settings
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fourlane.root import root
from fourlane.webhooks.endpoint import PATH, headers_of, misdirected, sender
from fourlane.webhooks.receive import Answer, Receiver
from fourlane.webhooks.setup import receiver

__all__ = ["application", "from_settings"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGI = Callable[[Message, Receive, Send], Awaitable[None]]


def application(receiver: Receiver, *, proxies: int = 0) -> ASGI:
    """The endpoint. Requests wait for Redis in threads, and not on the event loop.

    Parameters:
      proxies: how many proxies of ours add to ``X-Forwarded-For``; with 0 the header is not believed.
    """

    async def serve(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        elif scope["type"] == "http" and (answer := await _answer(receiver, scope, receive, proxies)) is not None:
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


async def _answer(receiver: Receiver, scope: Message, receive: Receive, proxies: int) -> Answer | None:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    answer = misdirected(scope["method"], path)
    if answer is not None:
        return answer
    body = await _body(receive, receiver.max_bytes)
    if body is None:
        return None
    headers: dict[str, list[str]] = defaultdict(list)
    for name, value in scope["headers"]:
        headers[name.decode("latin-1").lower()].append(value.decode("latin-1"))
    joined = {name: ", ".join(values) for name, values in headers.items()}
    address = sender((scope.get("client") or ("",))[0], joined.get("x-forwarded-for", ""), proxies)
    return await asyncio.to_thread(receiver.receive, path.removeprefix(PATH), joined, body, address=address)


async def _body(receive: Receive, most: int) -> bytes | None:
    """The body; of one that is too large, a byte too many. None when the sender left in the middle."""
    body = bytearray()
    while len(body) <= most:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body[: most + 1])
