"""Calls from plain functions: the rules run to their end in the caller's thread, on blocking sockets."""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from fourlane.providers.http.call import Bounds, Response, call
from fourlane.providers.http.connect import allowed_addresses
from fourlane.providers.http.idle import Idle
from fourlane.providers.http.network import Network, Stream
from fourlane.providers.http.target import checked_url

__all__ = ["close", "get", "look_up", "post"]

T = TypeVar("T")

_idle = Idle()


def post(
    url: str,
    *,
    body: bytes,
    headers: Mapping[str, str],
    timeout_seconds: float,
    allow_private: bool,
    max_redirects: int = 3,
    keep_body_bytes: int = 2048,
) -> Response:
    """Send a POST and return the answer, whatever its status.

    Redirects 307 and 308 are followed, as they keep method and body. 301, 302 and 303 turn a POST into
    a GET without its body, which would look like success and deliver nothing: they are returned as they
    are, and so is a redirect beyond ``max_redirects`` or without a target.

    Parameters:
      url: where to; http or https.
      body: sent as it is.
      headers: sent too, except those that this client sets itself (``Host``, ``Content-Length``…).
        To another origin a redirect takes only those that are no secrets, by name: ``target.FOLLOWING``.
      timeout_seconds: for the whole call, not for each read.
      allow_private: whether loopback and private networks may be called. Cloud metadata, link-local,
        multicast and reserved addresses are refused in any case.
      keep_body_bytes: how much of the answer's body to keep; not much more is read.

    Raises:
      TargetRefused: the URL or a header is not allowed, here or after a redirect.
      TransportError: DNS, connection, TLS or protocol failed, no address may be called, or the deadline passed.
    """
    bounds = Bounds(
        timeout_seconds=timeout_seconds,
        allow_private=allow_private,
        max_redirects=max_redirects,
        keep_body_bytes=keep_body_bytes,
    )
    return _finished(call(_BLOCKING, _idle, "POST", url, headers=headers, body=body, bounds=bounds))


def get(
    url: str,
    *,
    headers: Mapping[str, str],
    timeout_seconds: float,
    allow_private: bool,
    keep_body_bytes: int,
    max_redirects: int = 0,
) -> Response:
    """Send a GET, and follow redirects of all kinds. Arguments and errors are those of `post`."""
    bounds = Bounds(
        timeout_seconds=timeout_seconds,
        allow_private=allow_private,
        max_redirects=max_redirects,
        keep_body_bytes=keep_body_bytes,
    )
    return _finished(call(_BLOCKING, _idle, "GET", url, headers=headers, body=b"", bounds=bounds))


def look_up(url: str, *, timeout_seconds: float, allow_private: bool) -> None:
    """Ask whether a URL's host may be called, as it is now: another time its name may lead elsewhere.

    Raises TargetRefused, TransportError.
    """
    host, deadline = checked_url(url).host, time.monotonic() + timeout_seconds
    _finished(allowed_addresses(_BLOCKING, host, allow_private=allow_private, deadline=deadline))


def close() -> None:
    """Close this process's connections; the next call opens new ones."""
    _idle.close()


def _finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns. On blocking sockets it never waits for a loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("it waits for an event loop")


class _Blocking:
    """A network whose every wait blocks the thread."""

    async def answer(self, question: Future[T], seconds: float) -> T:
        try:
            return question.result(seconds)
        finally:
            question.cancel()

    async def dial(self, address: str, port: int, seconds: float) -> socket.socket:
        return _dial(address, port, seconds)

    async def open(self, sock: socket.socket, tls: ssl.SSLContext | None, name: str, seconds: float) -> Stream:
        if tls is None:
            return BlockingStream(sock)
        sock.settimeout(seconds)
        return BlockingStream(tls.wrap_socket(sock, server_hostname=name))


_BLOCKING: Network = _Blocking()


class BlockingStream:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def read(self, max_bytes: int, seconds: float) -> bytes:
        self._sock.settimeout(seconds)
        return self._sock.recv(max_bytes)

    async def write(self, data: bytes, seconds: float) -> None:
        self._sock.settimeout(seconds)
        self._sock.sendall(data)  # the time is for all of it

    def is_silent(self) -> bool:
        if self._sock.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self._sock.close()


def _dial(address: str, port: int, seconds: float) -> socket.socket:
    return socket.create_connection((address, port), seconds)


def _forget() -> None:
    """In a forked child: leave the parent its connections, and a lock that nobody here can release."""
    global _idle
    _idle = Idle()


os.register_at_fork(after_in_child=_forget)
