"""Connections in pools of few: a pool looks through all of its own at each request and each end of one."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.request import getproxies

import httpx2

__all__ = ["open_http"]

_LANES: Final = 16
_IN_A_LANE: Final = 64
_IDLE_IN_A_LANE: Final = 16
_KEEP_SECONDS: Final = 30.0
# A proxy on the way may forget a connection on which nothing is said while a model thinks.
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))
        if hasattr(socket, name)
    ),
)


def open_http(timeout: httpx2.Timeout, base_url: str = "") -> httpx2.AsyncClient:
    """A client for hundreds of streams at once."""
    proxied = bool(getproxies().keys() & {"http", "https", "all"})  # only HTTPX's own transport knows what to do then
    transport = None if proxied else _Lanes()
    limits = httpx2.Limits(max_connections=_LANES * _IN_A_LANE, max_keepalive_connections=_IDLE_IN_A_LANE)
    return httpx2.AsyncClient(
        base_url=base_url, timeout=timeout, limits=limits, transport=transport, follow_redirects=True
    )


class _Lanes(httpx2.AsyncBaseTransport):
    """Fills one pool after the other, so that few calls share few connections."""

    def __init__(self) -> None:
        context = httpx2.create_ssl_context()
        limits = httpx2.Limits(
            max_connections=None, max_keepalive_connections=_IDLE_IN_A_LANE, keepalive_expiry=_KEEP_SECONDS
        )
        self._pools = [
            httpx2.AsyncHTTPTransport(verify=context, limits=limits, socket_options=_KEEPALIVE) for _ in range(_LANES)
        ]
        self._used = [0] * _LANES

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        lane = next((n for n, used in enumerate(self._used) if used < _IN_A_LANE), None)
        if lane is None:
            lane = min(range(_LANES), key=self._used.__getitem__)
        self._used[lane] += 1
        try:
            response = await self._pools[lane].handle_async_request(request)
        except BaseException:
            self._used[lane] -= 1
            raise
        response.stream = _Stream(response.stream, self._used, lane)
        return response

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.aclose()


class _Stream(httpx2.AsyncByteStream):
    """A body that says when its connection is free again."""

    def __init__(self, stream: Any, used: list[int], lane: int) -> None:
        self._stream = stream
        self._used = used
        self._lane = lane
        self._open = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._used[self._lane] -= 1
        await self._stream.aclose()
