"""Events of a streamed answer, as the JSON that they carry: half the work of what SDKs make of them.

A gateway's odd event is a mapping like any other here: what it lacks is not there, and nothing fails.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final, Protocol

__all__ = ["Body", "events"]

_DRAIN_SECONDS: Final = 0.1


class Body(Protocol):
    """What is read of an HTTP answer."""

    def aiter_bytes(self) -> AsyncIterator[bytes]: ...


async def events(body: Body) -> AsyncGenerator[dict[str, Any], None]:
    """The events; an empty one for a comment, which only says that the provider is there.

    Raises JSONDecodeError: an event is none.
    """
    rest, data = bytearray(), bytearray()
    chunks = body.aiter_bytes()
    async for chunk in chunks:
        rest += chunk
        if b"\n" not in chunk:
            continue  # a line of megabytes is not looked through again for each of its chunks
        *lines, rest = rest.split(b"\n")
        for line in lines:
            line = line.rstrip(b"\r")
            if line.startswith(b"data:"):
                data += line[5:] if not data else b"\n" + line[5:]
            elif line.startswith(b":"):
                yield {}
            elif not line and data:
                if data.lstrip().startswith(b"[DONE]"):
                    await _drain(chunks)
                    return
                yield _parsed(data)
                data.clear()
    if rest.startswith(b"data:"):
        data += rest[5:]
    if data and not data.lstrip().startswith(b"[DONE]"):
        yield _parsed(data)


def _parsed(data: bytearray) -> dict[str, Any]:
    found = json.loads(data.decode("utf-8", "replace"))
    return found if isinstance(found, dict) else {}


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read what may follow the end: a connection can be used again only when all of its answer is read."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for _ in chunks:
                pass
    except TimeoutError:
        pass
