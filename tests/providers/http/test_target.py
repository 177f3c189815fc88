"""Which URLs are called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fourlane.providers.http import TargetRefused
from fourlane.providers.http.target import checked_url, redirect
from tests.providers.http.servers import (
    Internet,
    post,
)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://hook.example/", "must begin with"),
        ("file:///etc/passwd", "must begin with"),
        ("gopher://hook.example:6379/_FLUSHALL", "must begin with"),
        ("hook.example/path", "must begin with"),
        ("//hook.example/path", "must begin with"),
        ("", "must begin with"),
        ("http://user:password@hook.example/", "user name or password"),
        ("http://user@hook.example/", "user name or password"),
        ("http://hook.example@127.0.0.1/", "user name or password"),
        ("http://hook.example\\@127.0.0.1/", "user name or password"),
        ("http:///path", "host is malformed"),
        ("http://a..b/", "host is malformed"),
        ("http://.hook.example/", "host is malformed"),
        ("http://hook%2eexample/", "host is malformed"),
        ("http://hook.example /", "host is malformed"),
        ("http://" + "a" * 64 + ".example/", "host is malformed"),
        ("http://" + "abcdefgh." * 30 + "example/", "host is malformed"),
        ("http://[fe80::1%25eth0]/", "host is malformed"),
        ("http://hook.example:0/", "port 0"),
        ("http://hook.example:22/", "port 22"),
        ("http://hook.example:25/", "port 25"),
        ("http://hook.example:65536/", "port 65536"),
        ("http://hook.example:80:90/", "URL is malformed"),
        ("http://hook.example\r\nx: y/", "URL is malformed"),
        ("http://[::1/", "URL is malformed"),
        ("http://①②⑦.⓪.⓪.①/", "URL is malformed"),
        ("http://0177.0.0.1/", "URL is malformed"),
    ],
)
def test_a_bad_url_is_refused_before_dns_is_asked(internet: Internet, url: str, why: str) -> None:
    with pytest.raises(TargetRefused, match=why):
        post(url)
    assert internet.lookups == []


@given(st.text())
def test_no_text_is_a_url_that_breaks_the_check(text: str) -> None:
    for url in (text, "http://" + text):
        try:
            checked_url(url)
        except TargetRefused:
            pass


@given(st.text())
def test_no_location_breaks_the_check(location: str) -> None:
    base = checked_url("http://hook.example/a/b")
    try:
        redirect("GET", base, 307, location)
    except TargetRefused:
        pass
