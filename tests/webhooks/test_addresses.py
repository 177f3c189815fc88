"""Addresses of senders, as servers and proxies write them."""

from __future__ import annotations

import pytest

from fourlane.webhooks.address import neighbours, plain, sender


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("1.2.3.4", "1.2.3.4"),
        (" 1.2.3.4 ", "1.2.3.4"),
        ("1.2.3.4:5555", "1.2.3.4"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:DB8::1]", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),  # as RFC 7239 quotes it
        ("2001:db8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:db8:0:0:0:0:0:1:443", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("[::ffff:1.2.3.4]:80", "1.2.3.4"),
        ("", ""),
        ("unknown", ""),
        ("_hidden", ""),
        ("1.2.3", ""),
        ("1.2.3.4:", ""),
        ("1.2.3.4:80:80", ""),
        ("01.2.3.4", ""),
        ("١.2.3.4", ""),
        ("[", ""),
        ("\x00", ""),
        ("1.2.3.4" + " " * 100_000, ""),
    ],
)
def test_a_plain_address(written: str, address: str) -> None:
    assert plain(written) == address


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),  # one network is one sender
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("1.1.1.1", "1.1.1.2", False),
        ("", "", True),
    ],
)
def test_who_counts_as_one_sender(one: str, other: str, same: bool) -> None:
    assert (neighbours(one) == neighbours(other)) is same


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "6.6.6.6", "127.0.0.1"),  # anybody can write the header
        (1, "6.6.6.6, 3.18.12.63", "3.18.12.63"),
        (1, "6.6.6.6, 3.18.12.63:50123", "3.18.12.63"),
        (1, "3.18.12.63,", ""),
        (2, "6.6.6.6, 3.18.12.63, 10.0.0.1", "3.18.12.63"),
        (2, "10.0.0.1", ""),
        (1, "6.6.6.6, unknown", ""),
    ],
)
def test_the_senders_address(proxies: int, forwarded: str, address: str) -> None:
    assert sender("127.0.0.1", forwarded, proxies) == address
