"""A request and its answer on one connection: HTTP/1.1, with a bound for all that an answer may cost us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import h11
import httpx

from fourlane.providers.http.errors import TargetRefused, TransportError
from fourlane.providers.http.network import Stream, seconds_left

__all__ = ["Reply", "Request", "exchange"]

_READ_BYTES: Final = 65_536
_MOST_HEAD_BYTES: Final = 65_536
"""Of a head, of trailers, and of a chunk's size with its extensions."""
_MOST_INTERIM: Final = 20
_MOST_READS: Final = 256
_BYTES_A_READ: Final = 256
"""Who sends less at a time than this may do so some times, and no more."""
_MOST_TEXT: Final = 120  # of what was wrong, as it may quote the answer at length


class Request(NamedTuple):
    """A request as it goes out, checked."""

    method: str
    target: httpx.URL
    headers: Mapping[bytes, bytes]
    body: bytes


class Reply(NamedTuple):
    """An answer, or as much of it as is kept."""

    status: int
    headers: httpx.Headers
    body: bytes
    is_whole: bool
    """Whether the connection can be used again."""


async def exchange(stream: Stream, request: Request, *, keep_body_bytes: int, deadline: float) -> Reply:
    """Raises TargetRefused for a malformed header, and TransportError."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD_BYTES)
    await _write(stream, _encoded(connection, request), deadline)
    answer = _Answer(connection, stream, deadline, most_bytes=2 * keep_body_bytes + 2 * _MOST_HEAD_BYTES)
    try:
        head = await answer.head()
        body = await answer.beginning(keep_body_bytes)
    except h11.RemoteProtocolError as error:
        raise TransportError("protocol", str(error)[:_MOST_TEXT]) from error
    is_whole = connection.their_state is h11.DONE and connection.our_state is h11.DONE
    is_whole = is_whole and not connection.trailing_data[0]
    return Reply(head.status_code, httpx.Headers(head.headers.raw_items()), body, is_whole)


def _encoded(connection: h11.Connection, request: Request) -> bytes:
    url, body = request.target, request.body
    framing = {
        b"host": url.netloc,
        b"accept-encoding": b"identity",
        b"content-length": str(len(body)).encode("ascii"),
    }
    headers = [*framing.items(), *request.headers.items()]
    try:
        parts = [
            connection.send(h11.Request(method=request.method, target=url.raw_path, headers=headers)),
            connection.send(h11.Data(data=body)),
            connection.send(h11.EndOfMessage()),
        ]
    except h11.LocalProtocolError:
        raise TargetRefused("a header is malformed") from None  # its text might be a credential
    return b"".join(part for part in parts if part)


async def _write(stream: Stream, data: bytes, deadline: float) -> None:
    try:
        await stream.write(data, seconds_left(deadline))
    except TimeoutError:
        raise TransportError("timeout") from None
    except OSError:
        pass  # a server may answer 413 and hang up early: it is heard all the same


class _Answer:
    """Reads an answer, and counts what it costs."""

    def __init__(self, connection: h11.Connection, stream: Stream, deadline: float, *, most_bytes: int) -> None:
        self._connection, self._stream, self._deadline = connection, stream, deadline
        self._most_bytes = most_bytes
        self._reads = self._bytes = 0

    async def head(self) -> h11.Response:
        for _ in range(_MOST_INTERIM + 1):
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if getattr(event, "status_code", None) == 101:
                raise TransportError("protocol", "it wants to speak another protocol")
        raise TransportError("protocol", f"over {_MOST_INTERIM} interim answers")

    async def beginning(self, size: int) -> bytes:
        """Read to the end, so that the connection can be used again, unless more than `size` comes."""
        body = bytearray()
        while len(body) <= size:
            event = await self._event()
            if not isinstance(event, h11.Data):
                break
            body += event.data
        return bytes(body[:size])

    async def _event(self) -> Any:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            self._connection.receive_data(await self._read())
        return event

    async def _read(self) -> bytes:
        try:
            data = await self._stream.read(_READ_BYTES, seconds_left(self._deadline))
        except TimeoutError:
            raise TransportError("timeout") from None
        except OSError as error:
            raise TransportError("connection lost", error.strerror or str(error)) from error
        self._reads += 1
        self._bytes += len(data)
        if self._reads > _MOST_READS + self._bytes // _BYTES_A_READ:
            raise TransportError("protocol", "the answer comes in too small pieces")
        if self._bytes > self._most_bytes:
            raise TransportError("protocol", "the answer is mostly framing")
        return data
