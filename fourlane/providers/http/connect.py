"""Connections whose every address was checked, and whose every wait ends at the request's deadline."""

from __future__ import annotations

import ipaddress
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, Final

import httpcore

from fourlane.providers.http.addresses import Address, address_fault
from fourlane.providers.http.errors import TargetRefused, TransportError

__all__ = ["GuardedBackend", "Stream"]

_MAX_ADDRESSES: Final = 4  # tried of one name, so that a long answer of dead addresses does not eat the time


class GuardedBackend(httpcore.NetworkBackend):
    """Resolves, checks and connects. Every `timeout` here and below is the deadline, see ``request.py``."""

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
        return Stream(sock)


class Stream(httpcore.NetworkStream):
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
            return Stream(ssl_context.wrap_socket(self._sock, server_hostname=server_hostname))
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
    assert deadline is not None, "every request has a deadline"
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
