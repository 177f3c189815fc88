"""Which addresses may be connected to when others name them, and what is wrong with the rest. Pure."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

__all__ = ["Address", "address_fault", "host_fault", "unwrapped"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Table = tuple[tuple[str, tuple[_Network, ...]], ...]


def _networks(*networks: str) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(network) for network in networks)


# From IANA's special-purpose registries. Not left to `ipaddress`: its `is_global` differs between Python
# versions, and it calls two clouds' metadata services and all of 6to4 global.
_OWN_NETWORKS: Final[_Table] = (
    ("a loopback address", _networks("127.0.0.0/8", "::1/128")),
    ("a private address", _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")),
    ("a carrier's private address", _networks("100.64.0.0/10")),
    ("a benchmarking address", _networks("198.18.0.0/15")),  # local proxies hand these out
)
_NEVER: Final[_Table] = (
    # Alibaba; Azure, which lies in public space; Oracle; AWS (host, then containers); Google. The IPv4
    # services of AWS, Google and the others are link-local.
    (
        "a cloud metadata service",
        _networks("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32")
        + _networks("fd00:ec2::/32", "fd20:ce::/32"),
    ),
    ("a link-local address", _networks("169.254.0.0/16", "fe80::/10")),
    ("an unspecified address", _networks("0.0.0.0/8", "::/128")),  # Linux connects 0.0.0.0 to itself
    ("a multicast address", _networks("224.0.0.0/4", "ff00::/8")),
    (
        "a reserved address",
        _networks("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.51.100.0/24", "203.0.113.0/24")
        + _networks("240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20"),  # 2001::/23 has Teredo
    ),
    ("a 6to4 address", _networks("2002::/16")),
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def address_fault(address: Address, *, allow_private: bool) -> str | None:
    """Say what is wrong with connecting to an address (``"a loopback address"``), or None."""
    address = unwrapped(address)
    fault = _fault_in(_NEVER, address)
    if fault is not None:
        return fault
    fault = _fault_in(_OWN_NETWORKS, address)
    if fault is not None:
        return None if allow_private else fault
    if address.version == 6 and address not in _GLOBAL_V6:
        return "a reserved address"
    return None


def host_fault(host: str, *, allow_private: bool) -> str | None:
    """Likewise of a host, as far as it shows without asking for its addresses."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return None if allow_private else "a loopback address"
    address = _written(name)
    return None if address is None else address_fault(address, allow_private=allow_private)


def _written(host: str) -> Address | None:
    """The address that a host is written as, in the old ways too: 127.1, 0x7f000001."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _fault_in(table: _Table, address: Address) -> str | None:
    return next((fault for fault, networks in table if any(address in net for net in networks)), None)


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped or NAT64 address leads to; others as they are."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address
