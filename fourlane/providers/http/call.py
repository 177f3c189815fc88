"""One call: the request, the redirects that it follows, the beginning of the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from fourlane.providers.http.connect import connect
from fourlane.providers.http.exchange import Reply, Request, exchange
from fourlane.providers.http.idle import Idle
from fourlane.providers.http.network import Network
from fourlane.providers.http.target import FOLLOWING, check_host, checked_headers, checked_url, origin, redirect
from fourlane.telling import tell

__all__ = ["Bounds", "Response", "call"]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.

    Parameters:
      status: the HTTP status.
      headers: the answer's headers; names are found in any case.
      body: the beginning of the body as sent, at most ``keep_body_bytes``.
      elapsed_ms: from the call to the last byte that was read, redirects included.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a call may do; docs of the arguments: `threads.post`."""

    timeout_seconds: float
    allow_private: bool
    max_redirects: int
    keep_body_bytes: int


async def call(
    network: Network,
    idle: Idle,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    bounds: Bounds,
) -> Response:
    """Raises TargetRefused, TransportError."""
    started = time.monotonic()
    deadline = started + bounds.timeout_seconds
    request = Request(method, checked_url(url), checked_headers(headers), body)
    redirects = 0
    while True:
        answer = await _traced(network, idle, request, bounds, deadline)
        following = None
        if redirects < bounds.max_redirects:
            following = redirect(method, request.target, answer.status, answer.headers.get("location"))
        if following is None:
            elapsed_ms = (time.monotonic() - started) * 1000
            return Response(answer.status, answer.headers, answer.body, elapsed_ms)
        request = _redirected(request, following)
        redirects += 1


def _redirected(request: Request, to: httpx.URL) -> Request:
    """The same to another target; what may be a secret stays with those whom it is for."""
    if origin(to) == origin(request.target):
        return request._replace(target=to)
    headers = {name: value for name, value in request.headers.items() if name in FOLLOWING}
    return request._replace(target=to, headers=headers)


async def _traced(network: Network, idle: Idle, request: Request, bounds: Bounds, deadline: float) -> Reply:
    # Without the path, which may hold a secret.
    said = {"http.request.method": request.method, "server.address": request.target.host}
    with tell.span(request.method, said, outgoing=True) as span:
        answer = await _answered(network, idle, request, bounds, deadline)
        span.say({"http.response.status_code": answer.status})
    return answer


async def _answered(network: Network, idle: Idle, request: Request, bounds: Bounds, deadline: float) -> Reply:
    check_host(request.target, allow_private=bounds.allow_private)
    # A call without allow_private never meets a connection opened with it.
    key = (bounds.allow_private, origin(request.target))
    stream = idle.take(key)
    if stream is None:
        stream = await connect(network, request.target, allow_private=bounds.allow_private, deadline=deadline)
    is_whole = False
    try:
        answer = await exchange(stream, request, keep_body_bytes=bounds.keep_body_bytes, deadline=deadline)
        is_whole = answer.is_whole
    finally:
        if is_whole:
            idle.keep(key, stream)
        else:
            stream.close()
    return answer
