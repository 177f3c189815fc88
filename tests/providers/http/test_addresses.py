"""Which addresses are connected to."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourlane.providers.http import TargetRefused
from fourlane.providers.http.addresses import address_fault, unwrapped
from tests.providers.http.servers import (
    ServerFactory,
    post,
)


@pytest.mark.parametrize(
    ("address", "fault", "also_with_allow_private"),
    [
        ("93.184.216.34", None, False),
        ("2606:2800:220:1::1", None, False),
        ("127.0.0.1", "loopback", False),
        ("127.255.255.254", "loopback", False),
        ("::1", "loopback", False),
        ("10.0.0.1", "private", False),
        ("172.16.0.1", "private", False),
        ("172.31.255.255", "private", False),
        ("172.32.0.1", None, False),
        ("192.168.1.1", "private", False),
        ("fd12:3456::1", "private", False),
        ("100.64.0.1", "carrier", False),
        ("100.127.255.255", "carrier", False),
        ("100.128.0.1", None, False),
        ("198.18.0.1", "benchmarking", False),
        ("169.254.1.1", "link-local", True),
        ("fe80::1", "link-local", True),
        ("fe80::1%1", "link-local", True),
        ("0.0.0.0", "unspecified", True),
        ("0.1.2.3", "unspecified", True),
        ("::", "unspecified", True),
        ("224.0.0.1", "multicast", True),
        ("ff02::1", "multicast", True),
        ("240.0.0.1", "reserved", True),
        ("255.255.255.255", "reserved", True),
        ("192.0.2.1", "reserved", True),
        ("2001:db8::1", "reserved", True),
        ("fec0::1", "reserved", True),  # site-local, of old
        ("::7f00:1", "reserved", True),  # IPv4-compatible, of old
        # Metadata services, some of them outside of every private range.
        ("169.254.169.254", "link-local", True),
        ("100.100.100.200", "metadata", True),
        ("168.63.129.16", "metadata", True),
        ("192.0.0.192", "metadata", True),
        ("fd00:ec2::254", "metadata", True),
        ("fd20:ce::254", "metadata", True),
        # IPv4 in IPv6 clothes.
        ("::ffff:127.0.0.1", "loopback", False),
        ("::ffff:169.254.169.254", "link-local", True),
        ("::ffff:93.184.216.34", None, False),
        ("64:ff9b::7f00:1", "loopback", False),
        ("64:ff9b::a9fe:a9fe", "link-local", True),
        ("64:ff9b::5db8:d822", None, False),
        ("64:ff9b:1::7f00:1", "reserved", True),
        ("2002:7f00:1::", "6to4", True),
        ("2002:5db8:d822::", "6to4", True),
        ("2001:0:7f00:1::", "reserved", True),  # Teredo
    ],
)
def test_addresses(address: str, fault: str | None, also_with_allow_private: bool) -> None:
    parsed = ipaddress.ip_address(address)
    found = address_fault(parsed, allow_private=False)
    assert (found is None) if fault is None else (found is not None and fault in found)
    assert (address_fault(parsed, allow_private=True) is not None) == also_with_allow_private


_anything = st.ip_addresses()
_special_v6 = st.sampled_from(["::/96", "::ffff:0:0/96", "64:ff9b::/96", "2001::/16", "fc00::/6"]).flatmap(
    lambda network: st.ip_addresses(v=6, network=network)
)


@given(st.one_of(_anything, _special_v6))
def test_no_address_is_allowed_that_python_knows_to_be_special(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    inner = unwrapped(address)
    if not inner.is_global or inner.is_multicast:
        assert address_fault(address, allow_private=False) is not None


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
    ],
)
def test_no_way_to_write_loopback_gets_through(serve: ServerFactory, host: str) -> None:
    server = serve()
    with pytest.raises(TargetRefused, match="loopback"):
        post(f"http://{host}:{server.port}/", allow_private=False)
    assert server.connections == 0


def test_a_connection_opened_with_allow_private_is_not_used_without(serve: ServerFactory) -> None:
    server = serve()
    post(server.url, allow_private=True)
    with pytest.raises(TargetRefused, match="loopback"):
        post(server.url, allow_private=False)
    assert len(server.requests) == 1
