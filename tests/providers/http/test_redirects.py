"""Redirects pass the same gates."""

from __future__ import annotations

from typing import Any

import pytest

from fourlane.providers.http import TargetRefused, TransportError, get
from tests.providers.http.servers import (
    OK,
    PUBLIC,
    Internet,
    Request,
    ServerFactory,
    post,
    redirect_to,
)

pytestmark = pytest.mark.usefixtures("way")


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_keeps_method_and_body(serve: ServerFactory, status: int) -> None:
    def answer(request: Request) -> bytes:
        return OK if "/new" in request.line else redirect_to("/new?b=2", status)(request)

    server = serve(answer)
    assert post(server.url, body=b"hello", headers={"authorization": "mine"}).status == 200
    assert [request.line for request in server.requests] == [
        "POST /hook HTTP/1.1",
        "POST /new?b=2 HTTP/1.1",
    ]
    assert server.requests[1].body == b"hello"
    assert server.requests[1].headers["authorization"] == "mine"


def test_what_may_be_a_secret_does_not_follow_to_another_origin(serve: ServerFactory) -> None:
    other = serve()
    server = serve(redirect_to(other.url))
    secrets = {"authorization", "cookie", "x-api-key", "x-mine", "webhook-signature"}
    plain = {"webhook-id", "webhook-timestamp", "content-type", "user-agent"}
    post(server.url, headers=dict.fromkeys(secrets | plain, "1"))
    assert server.requests[0].headers.keys() >= secrets | plain
    assert other.requests[0].headers.keys() & (secrets | plain) == plain


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304])
def test_a_redirect_that_would_become_a_get_is_returned(serve: ServerFactory, status: int) -> None:
    server = serve(redirect_to("/new", status))
    assert post(server.url).status == status
    assert len(server.requests) == 1


def test_a_redirect_beyond_the_limit_is_returned(serve: ServerFactory) -> None:
    server = serve(redirect_to("/hook"))
    response = post(server.url)
    assert (response.status, response.headers["location"]) == (307, "/hook")
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_get_follows_all_kinds_where_it_may(serve: ServerFactory, status: int) -> None:
    server = serve(lambda request: OK if "/new" in request.line else redirect_to("/new", status)(request))
    options: dict[str, Any] = {"headers": {}, "timeout_seconds": 10, "allow_private": True, "keep_body_bytes": 100}
    assert get(server.url, **options).status == status
    answer = get(server.url, **options, max_redirects=1)
    assert (answer.status, answer.body) == (200, b"ok")
    assert [request.line for request in server.requests[1:]] == ["GET /hook HTTP/1.1", "GET /new HTTP/1.1"]


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://127.0.0.1:{port}/admin", "loopback"),
        ("http://localhost:{port}/admin", "loopback"),
        ("http://2130706433:{port}/admin", "loopback"),
        ("//[::ffff:127.0.0.1]:{port}/admin", "loopback"),
        ("http://169.254.169.254/latest/meta-data/", "link-local"),
        ("http://user:pass@hook.example/", "redirected: the URL must not carry"),
        ("file:///etc/passwd", "redirected: the URL must begin"),
        ("http://hook.example:25/", "redirected: port 25"),
        ("http://[", "malformed"),
    ],
)
def test_a_redirect_passes_the_same_gates(serve: ServerFactory, internet: Internet, location: str, why: str) -> None:
    inside = serve()
    server = serve(redirect_to(location.format(port=inside.port)))
    internet.dns("hook.example", [PUBLIC])
    internet.dns("localhost", ["127.0.0.1"])
    internet.dns("2130706433", ["127.0.0.1"])
    internet.routes = {PUBLIC: server.port, "127.0.0.1": inside.port}

    with pytest.raises(TargetRefused, match=why):
        post("http://hook.example/", allow_private=False)

    assert len(server.requests) == 1
    assert (inside.connections, internet.dialed) == (0, [PUBLIC])


def test_a_redirect_to_a_name_of_ours_passes_the_same_gates(serve: ServerFactory, internet: Internet) -> None:
    inside = serve()
    server = serve(redirect_to("http://inside.example/"))
    internet.dns("hook.example", [PUBLIC])
    internet.dns("inside.example", ["10.1.2.3"])
    internet.routes = {PUBLIC: server.port, "10.1.2.3": inside.port}
    with pytest.raises(TransportError, match=r"^DNS: "):
        post("http://hook.example/", allow_private=False)
    assert (inside.connections, internet.dialed) == (0, [PUBLIC])


def test_metadata_is_refused_even_where_private_networks_are_allowed(serve: ServerFactory) -> None:
    server = serve(redirect_to("http://169.254.169.254/latest/meta-data/"))
    with pytest.raises(TargetRefused, match="link-local"):
        post(server.url, allow_private=True)
