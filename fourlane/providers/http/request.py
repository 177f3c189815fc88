"""One call: the request, the redirects that it follows, the beginning of the answer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import httpcore
import httpx

from fourlane.providers.http import pools
from fourlane.providers.http.errors import TargetRefused, TransportError
from fourlane.providers.http.target import CREDENTIALS, checked_headers, checked_url, origin, redirect
from fourlane.telling import tell

__all__ = ["Response", "get", "post"]


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
        ``Authorization`` and ``Cookie`` do not follow a redirect to another origin.
      timeout_seconds: for the whole call, not for each read.
      allow_private: whether loopback and private networks may be called. Cloud metadata, link-local,
        multicast and reserved addresses are refused in any case.
      keep_body_bytes: how much of the answer's body to keep; not much more is read.

    Raises:
      TargetRefused: the URL, an address or a header is not allowed, here or after a redirect.
      TransportError: DNS, connection, TLS or protocol failed, or the deadline passed.
    """
    return _send(
        _Request("POST", checked_url(url), checked_headers(headers), body),
        timeout_seconds=timeout_seconds,
        allow_private=allow_private,
        max_redirects=max_redirects,
        keep_body_bytes=keep_body_bytes,
    )


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
    return _send(
        _Request("GET", checked_url(url), checked_headers(headers), b""),
        timeout_seconds=timeout_seconds,
        allow_private=allow_private,
        max_redirects=max_redirects,
        keep_body_bytes=keep_body_bytes,
    )


class _Request(NamedTuple):
    """A request as it goes out, checked."""

    method: str
    target: httpx.URL
    headers: Mapping[bytes, bytes]
    body: bytes

    def redirected(self, to: httpx.URL) -> _Request:
        """The same to another target; credentials stay with those whom they are for."""
        if origin(to) == origin(self.target):
            return self._replace(target=to)
        headers = {name: value for name, value in self.headers.items() if name not in CREDENTIALS}
        return self._replace(target=to, headers=headers)


class _Reply(NamedTuple):
    status: int
    headers: httpx.Headers
    body: bytes


def _send(
    request: _Request, *, timeout_seconds: float, allow_private: bool, max_redirects: int, keep_body_bytes: int
) -> Response:
    started = time.monotonic()
    deadline = started + timeout_seconds
    pool = pools.pool(allow_private=allow_private)
    redirects = 0
    while True:
        answer = _traced(pool, request, deadline, keep_body_bytes)
        following = None
        if redirects < max_redirects:
            following = redirect(request.method, request.target, answer.status, answer.headers.get("location"))
        if following is None:
            elapsed_ms = (time.monotonic() - started) * 1000
            return Response(answer.status, answer.headers, answer.body, elapsed_ms)
        request = request.redirected(following)
        redirects += 1


def _traced(pool: httpcore.ConnectionPool, request: _Request, deadline: float, keep_body_bytes: int) -> _Reply:
    # Without the path, which may hold a secret.
    said = {"http.request.method": request.method, "server.address": request.target.host}
    with tell.span(request.method, said, outgoing=True) as span:
        answer = _exchange(pool, request, deadline, keep_body_bytes)
        span.say({"http.response.status_code": answer.status})
    return answer


def _exchange(pool: httpcore.ConnectionPool, request: _Request, deadline: float, keep_body_bytes: int) -> _Reply:
    method, url, headers, body = request
    framing = {
        b"host": url.netloc,
        b"accept-encoding": b"identity",
        b"content-length": str(len(body)).encode("ascii"),
    }
    # httpcore hands connect, read and write on to our own classes (connect.py), which take the number as the
    # *moment* when time is up: as a duration it would begin anew with each byte of a dripping server.
    timeout = {"connect": deadline, "read": deadline, "write": deadline}
    try:
        with pool.stream(
            method,
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
            headers=[*framing.items(), *headers.items()],
            content=body,
            extensions={"timeout": timeout},
        ) as response:
            return _Reply(
                response.status,
                httpx.Headers(response.headers),
                _beginning(response.iter_stream(), keep_body_bytes),
            )
    except httpcore.LocalProtocolError:
        raise TargetRefused("a header is malformed") from None  # its text might be a credential
    except httpcore.RemoteProtocolError as error:
        # The text may quote the answer at length.
        raise TransportError("protocol", str(error)[:120]) from error


def _beginning(chunks: Iterable[bytes], size: int) -> bytes:
    """Read to the end, so that the connection can be used again, unless more than `size` comes."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > size:
            break
    return bytes(body[:size])
