"""Addresses of senders: what a server or a proxy wrote, read. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final

__all__ = ["neighbours", "plain", "sender"]

_LONGEST: Final = 64


def sender(peer: str, forwarded: str, proxies: int) -> str:
    """The sender's address; empty when it is not known.

    Parameters:
      peer: who opened the connection.
      forwarded: the header ``X-Forwarded-For``.
      proxies: how many proxies of ours add to it; with 0 it is not believed.
    """
    if not proxies:
        return plain(peer)
    # Each proxy adds the address that it saw at the end; what stands further left, anybody may have written.
    passed = forwarded.rsplit(",", proxies)[-proxies:]
    return plain(passed[0]) if len(passed) == proxies else ""


def plain(text: str) -> str:
    """An address without a port, brackets, quotes or a zone, in the one form that it has; empty when it is none.

    Proxies write ``1.2.3.4:5555`` and ``[2001:db8::1]:443``; a port would make each connection a sender of its own.
    """
    if len(text) > _LONGEST:
        return ""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    head, _, tail = text.rpartition(":")
    for candidate in (text, head if tail.isdecimal() else ""):
        try:
            parsed = ipaddress.ip_address(candidate.partition("%")[0])
        except ValueError:
            continue
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        return str(mapped or parsed)
    return ""


def neighbours(address: str) -> str:
    """Who counts as one sender: an IPv6 host has a whole network of addresses to choose from.

    Parameters:
      address: as `plain` gives it.
    """
    return str(ipaddress.IPv6Network((address, 64), strict=False)) if ":" in address else address
