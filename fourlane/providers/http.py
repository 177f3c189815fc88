"""HTTP to addresses that others gave us, guarded so that nobody can aim it at our own network (SSRF).

A request passes these gates, and each redirect passes all of them again:

1. The URL: http or https, a plain host, no credentials, port 80, 443 or above 1023.
2. The name is resolved once, and *every* address of the answer must be allowed.
3. The socket is connected to one of those very addresses, so that a second DNS answer ("rebinding")
   can change nothing. TLS (SNI, certificate) and ``Host`` still use the name.
4. One deadline covers it all: DNS, connecting, TLS, sending, redirects and the answer.
5. Of the answer's body only the beginning is read; then the connection is closed.

Proxies of the environment are not used: a proxy would resolve the name itself, past the guard.
Bodies are not decompressed, so that a small answer cannot become a large one.

Connections are kept for reuse, in one pool per process and value of ``allow_private``.
"""

from __future__ import annotations

import ipaddress
import os
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import httpcore
import httpx

from fourlane.errors import FourlaneError
from fourlane.providers.addresses import Address, address_fault
from fourlane.telling import tell

__all__ = ["Reason", "Response", "TargetRefused", "TransportError", "close", "get", "post"]

Reason = Literal["timeout", "DNS", "connection refused", "unreachable", "TLS", "connection lost", "protocol"]


class TargetRefused(FourlaneError, ValueError):
    """We will not send this request: its URL, an address behind it or a header is not allowed.

    Trying again is no use. The text names the host, but never an address: who gave us the URL may
    read it, and must not learn from it what our DNS knows.
    """


class TransportError(FourlaneError):
    """No complete answer came back. Trying again may help, and the receiver may have got the request.

    Attributes:
      reason: the kind of failure, one of a few words, fit for a metric's label.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason: Reason = reason
        super().__init__(f"{reason}: {detail}" if detail else reason)


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
    return _request("POST", url, body, headers, timeout_seconds, allow_private, max_redirects, keep_body_bytes)


def get(
    url: str,
    *,
    headers: Mapping[str, str],
    timeout_seconds: float,
    allow_private: bool,
    keep_body_bytes: int,
) -> Response:
    """Send a GET; follow no redirect. Arguments and errors are those of `post`."""
    return _request("GET", url, b"", headers, timeout_seconds, allow_private, 0, keep_body_bytes)


def _request(
    method: str,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    timeout_seconds: float,
    allow_private: bool,
    max_redirects: int,
    keep_body_bytes: int,
) -> Response:
    started = time.monotonic()
    deadline = started + timeout_seconds
    target = _checked_url(url)
    sent_headers = _checked_headers(headers)
    pool = _pool(allow_private)
    redirects = 0
    while True:
        said = {"http.request.method": method, "server.address": target.host}  # a path may hold a secret
        with tell.span(method, said, outgoing=True) as span:
            answer = _exchange(pool, method, target, sent_headers, body, deadline, keep_body_bytes)
            span.say({"http.response.status_code": answer.status})
        following = _redirect(target, answer) if redirects < max_redirects else None
        if following is None:
            elapsed_ms = (time.monotonic() - started) * 1000
            return Response(answer.status, answer.headers, answer.body, elapsed_ms)
        if _origin(following) != _origin(target):
            sent_headers = {name: value for name, value in sent_headers.items() if name not in _CREDENTIALS}
        target = following
        redirects += 1


def close() -> None:
    """Close this process's connections; the next call opens new ones."""
    with _pools_lock:
        pools = list(_pools.values())
        _pools.clear()
    for pool in pools:
        pool.close()


# --- URL and headers -------------------------------------------------------------------------------

_LABEL = rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rb"(?=.{1,253}\Z)%b(?:\.%b)*\.?" % (_LABEL, _LABEL))

_CREDENTIALS: Final = frozenset({b"authorization", b"cookie"})
# These frame the message or choose a virtual host, so a caller's value could undo the guard.
_OURS: Final = frozenset(
    {b"accept-encoding", b"connection", b"content-length", b"expect", b"host", b"keep-alive"}
    | {b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)


def _checked_url(url: str | httpx.URL) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise TargetRefused("the URL is malformed") from None
    if parsed.scheme not in ("http", "https"):
        raise TargetRefused("the URL must begin with http:// or https://")
    if parsed.userinfo:
        raise TargetRefused("the URL must not carry a user name or password")
    if not _is_plain_host(parsed.raw_host):
        raise TargetRefused("the URL's host is malformed")
    if not _is_web_port(parsed.port):
        raise TargetRefused(f"port {parsed.port} is not allowed: use 80, 443 or one above 1023")
    return parsed


def _is_plain_host(host: bytes) -> bool:
    if b":" not in host:
        return _HOST_NAME.fullmatch(host) is not None
    try:
        return ipaddress.IPv6Address(host.decode("ascii")).scope_id is None
    except ValueError:
        return False


def _is_web_port(port: int | None) -> bool:
    # Below 1024 live SMTP, SSH and others that could be made to obey the lines of an HTTP request.
    return port in (None, 80, 443) or (port is not None and 1024 <= port <= 65535)


def _checked_headers(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    try:
        given = {name.lower().encode("ascii"): value.encode("latin-1") for name, value in headers.items()}
    except UnicodeEncodeError:
        raise TargetRefused("a header is malformed") from None  # its text might be a credential
    return {b"user-agent": b"fourlane"} | {name: value for name, value in given.items() if name not in _OURS}


# --- One request, its redirect ---------------------------------------------------------------------


class _Answer(NamedTuple):
    status: int
    headers: httpx.Headers
    body: bytes


def _exchange(
    pool: httpcore.ConnectionPool,
    method: str,
    url: httpx.URL,
    headers: Mapping[bytes, bytes],
    body: bytes,
    deadline: float,
    keep_body_bytes: int,
) -> _Answer:
    framing = {
        b"host": url.netloc,
        b"accept-encoding": b"identity",
        b"content-length": str(len(body)).encode("ascii"),
    }
    # httpcore hands connect, read and write on to our own classes below, which take the number as the
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
            return _Answer(
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


def _redirect(url: httpx.URL, answer: _Answer) -> httpx.URL | None:
    location = answer.headers.get("location")
    if answer.status not in (307, 308) or not location:
        return None
    try:
        following = _checked_url(url.join(location))
    except httpx.InvalidURL:
        raise TargetRefused("redirected to a malformed URL") from None
    except TargetRefused as refused:
        raise TargetRefused(f"redirected: {refused}") from None
    if url.scheme == "https" and following.scheme == "http":
        raise TargetRefused("redirected from https to http")
    return following


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port


# --- Connections -----------------------------------------------------------------------------------

_MAX_ADDRESSES = 4  # tried of one name, so that a long answer of dead addresses does not eat the time


class _GuardedBackend(httpcore.NetworkBackend):
    """Resolves, checks and connects. Every `timeout` here and below is the deadline, see `_exchange`."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _resolve(host, timeout)
        for address in addresses:
            fault = address_fault(address, allow_private=self._allow_private)
            if fault is not None:
                raise TargetRefused(f"{host} is {fault}")
        sock = _connect(addresses[:_MAX_ADDRESSES], port, timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _Stream(sock)


class _Stream(httpcore.NetworkStream):
    """A connected socket whose every wait ends at the deadline."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._sock.settimeout(_seconds_left(timeout))
        try:
            return self._sock.recv(max_bytes)
        except TimeoutError:
            raise TransportError("timeout") from None
        except OSError as error:
            raise TransportError("connection lost", _text(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        rest = memoryview(buffer)
        try:
            while rest:
                self._sock.settimeout(_seconds_left(timeout))
                rest = rest[self._sock.send(rest) :]
        except TimeoutError:
            raise TransportError("timeout") from None
        except OSError as error:
            # httpcore passes over this one and reads: a server may answer 413 and hang up early.
            raise httpcore.WriteError(_text(error)) from error

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            self._sock.settimeout(_seconds_left(timeout))
            return _Stream(ssl_context.wrap_socket(self._sock, server_hostname=server_hostname))
        except TimeoutError:
            raise TransportError("timeout", "in the TLS handshake") from None
        except ssl.SSLCertVerificationError as error:
            raise TransportError("TLS", error.verify_message) from error
        except ssl.SSLError as error:
            raise TransportError("TLS", error.reason or "handshake failed") from error
        except OSError as error:
            raise TransportError("connection lost", _text(error)) from error
        finally:
            self._sock.close()  # of no effect on a socket that was wrapped

    def close(self) -> None:
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:
        # The pool asks before it uses an idle connection again: readable then means closed by the peer.
        return _is_readable(self._sock) if info == "is_readable" else None


def _resolve(host: str, deadline: float | None) -> list[Address]:
    """All addresses of a host, each once, in the resolver's order."""
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass  # a name; or 0x7f.1 and its like, which the resolver turns into an address to be checked
    answer: Future[list[str]] = Future()

    def ask() -> None:
        try:
            answer.set_result(_lookup(host))
        except Exception as error:
            answer.set_exception(error)

    # A thread each, because getaddrinfo takes no timeout and one slow name server must not keep other
    # names waiting. One left behind ends with the resolver's own timeout.
    threading.Thread(target=ask, name="fourlane-dns", daemon=True).start()
    try:
        found = answer.result(_seconds_left(deadline))
    except TimeoutError:
        raise TransportError("timeout", f"resolving {host}") from None
    except OSError as error:
        raise TransportError("DNS", f"cannot resolve {host}: {_text(error)}") from error
    return [ipaddress.ip_address(address) for address in dict.fromkeys(found)]


def _lookup(host: str) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]


def _connect(addresses: list[Address], port: int, deadline: float | None) -> socket.socket:
    """Connect to the first address that answers; each may use its even share of the time left."""
    failure = TransportError("DNS", "no address")
    for tried, address in enumerate(addresses):
        share = _seconds_left(deadline) / (len(addresses) - tried)
        try:
            return _dial(str(address), port, share)
        except TimeoutError:
            failure = TransportError("timeout", "connecting")
        except ConnectionRefusedError:
            failure = TransportError("connection refused")
        except OSError as error:
            failure = TransportError("unreachable", _text(error))
    raise failure


def _dial(address: str, port: int, timeout_seconds: float) -> socket.socket:
    return socket.create_connection((address, port), timeout_seconds)


def _seconds_left(deadline: float | None) -> float:
    assert deadline is not None, "every request of this module has a deadline"
    left = deadline - time.monotonic()
    if left <= 0:
        raise TransportError("timeout")
    return left


def _is_readable(sock: socket.socket) -> bool:
    if sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _text(error: OSError) -> str:
    return error.strerror or str(error)


# --- Pools -----------------------------------------------------------------------------------------

_IDLE_CONNECTIONS = 100
# Node closes idle connections after 5 s. Ending ours earlier spares us the race in which a request is
# sent to a connection that is just being closed, which costs the job an attempt.
_IDLE_SECONDS = 4.0

_pools: dict[bool, httpcore.ConnectionPool] = {}
_pools_lock = threading.Lock()


def _pool(allow_private: bool) -> httpcore.ConnectionPool:
    # Two pools, so that a call without allow_private never meets a connection opened with it.
    with _pools_lock:
        pool = _pools.get(allow_private)
        if pool is None:
            pool = _pools[allow_private] = httpcore.ConnectionPool(
                ssl_context=_tls_context(),
                max_connections=None,  # the caller's threads are the limit
                max_keepalive_connections=_IDLE_CONNECTIONS,
                keepalive_expiry=_IDLE_SECONDS,
                network_backend=_GuardedBackend(allow_private=allow_private),
            )
        return pool


def _tls_context() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


def _forget_pools() -> None:
    """In a forked child: leave the parent its connections, and a lock that nobody here can release."""
    global _pools_lock
    _pools_lock = threading.Lock()
    _pools.clear()


os.register_at_fork(after_in_child=_forget_pools)
