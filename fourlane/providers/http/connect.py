"""Connects to a URL's host, if every one of its addresses may be connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from functools import cache
from typing import Final

import httpx

from fourlane.providers.http.addresses import Address, address_fault
from fourlane.providers.http.errors import NO_ADDRESS, TransportError
from fourlane.providers.http.names import names
from fourlane.providers.http.network import Network, Stream, seconds_left

__all__ = ["allowed_addresses", "connect"]

_MOST_ADDRESSES: Final = 4  # tried of one name, so that a long answer of dead addresses does not eat the time
_PORTS: Final = {"http": 80, "https": 443}


async def connect(network: Network, target: httpx.URL, *, allow_private: bool, deadline: float) -> Stream:
    """Raises TransportError."""
    addresses = await allowed_addresses(network, target.host, allow_private=allow_private, deadline=deadline)
    sock = await _dialed(network, addresses[:_MOST_ADDRESSES], target.port or _PORTS[target.scheme], deadline)
    tls = _tls_context() if target.scheme == "https" else None
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return await network.open(sock, tls, target.host, seconds_left(deadline))
    except (OSError, TransportError, asyncio.CancelledError) as error:
        sock.close()
        raise (_failure(error) if isinstance(error, OSError) else error) from error


async def allowed_addresses(network: Network, host: str, *, allow_private: bool, deadline: float) -> list[Address]:
    """All of a host. Raises TransportError where one of them may not be called, as where there is none."""
    addresses = await _addresses(network, host, deadline)
    for address in addresses:
        _check(host, address, allow_private=allow_private)
    return addresses


def _check(host: str, address: Address, *, allow_private: bool) -> None:
    fault = address_fault(address, allow_private=allow_private)
    if fault is not None:
        is_ours = address_fault(address, allow_private=True) is None
        raise TransportError("DNS", NO_ADDRESS, detail=f"{host} is {fault}", private=is_ours)


async def _addresses(network: Network, host: str, deadline: float) -> list[Address]:
    """All addresses of a host, each once, in the resolver's order."""
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass  # a name; or 0x7f.1 and its like, which the resolver turns into an address to be checked
    try:
        found = await network.answer(names().ask(host), seconds_left(deadline))
    except TimeoutError:
        raise TransportError("timeout", f"resolving {host}") from None
    except OSError as error:
        raise TransportError("DNS", NO_ADDRESS, detail=f"cannot resolve {host}: {_text(error)}") from error
    return [ipaddress.ip_address(address) for address in dict.fromkeys(found)]


async def _dialed(network: Network, addresses: list[Address], port: int, deadline: float) -> socket.socket:
    """Connect to the first address that answers; each may use its even share of the time left."""
    failure = TransportError("DNS", NO_ADDRESS, detail="the answer has no address")
    for tried, address in enumerate(addresses):
        share = seconds_left(deadline) / (len(addresses) - tried)
        try:
            return await network.dial(str(address), port, share)
        except TimeoutError:
            failure = TransportError("timeout", "connecting")
        except ConnectionRefusedError:
            failure = TransportError("connection refused")
        except OSError as error:
            failure = TransportError("unreachable", _text(error))
    raise failure


def _failure(error: OSError) -> TransportError:
    """Of a connection that was made, and did not become a stream."""
    if isinstance(error, TimeoutError):
        return TransportError("timeout", "in the TLS handshake")
    if isinstance(error, ssl.SSLCertVerificationError):
        return TransportError("TLS", error.verify_message)
    if isinstance(error, ssl.SSLError):
        return TransportError("TLS", error.reason or "handshake failed")
    return TransportError("connection lost", _text(error))


@cache
def _tls_context() -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _text(error: OSError) -> str:
    return error.strerror or str(error)
