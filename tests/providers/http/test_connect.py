"""Names: every address is checked, and the one that was checked is connected to."""

from __future__ import annotations

import socket

import pytest

from fourlane.providers.http import TargetRefused, TransportError, connect
from tests.providers.http.servers import (
    PUBLIC,
    Internet,
    ServerFactory,
    post,
)


def test_the_checked_address_is_connected_to_and_the_name_is_sent(serve: ServerFactory, internet: Internet) -> None:
    server = serve()
    internet.dns("hook.example", [PUBLIC])
    internet.routes[PUBLIC] = server.port

    assert post("http://Hook.Example:8080/", allow_private=False).status == 200

    assert internet.dialed == [PUBLIC]
    assert server.requests[0].headers["host"] == "hook.example:8080"


@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.5", "169.254.169.254", "::ffff:10.0.0.5"])
def test_one_inside_address_among_the_answers_is_enough_to_refuse(internet: Internet, inside: str) -> None:
    internet.dns("hook.example", [PUBLIC] * 9 + [inside])
    with pytest.raises(TargetRefused) as caught:
        post("http://hook.example/", allow_private=False)
    assert internet.dialed == []
    assert inside not in str(caught.value)  # or a tenant could read our DNS


def test_a_name_that_changes_its_mind_is_looked_up_once(serve: ServerFactory, internet: Internet) -> None:
    server = serve(lambda request: b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    internet.dns("rebind.example", [PUBLIC], ["127.0.0.1"])
    internet.routes = {PUBLIC: server.port, "127.0.0.1": server.port}

    assert post("http://rebind.example/", allow_private=False).status == 200
    with pytest.raises(TargetRefused, match="loopback"):
        post("http://rebind.example/", allow_private=False)

    assert internet.lookups == ["rebind.example"] * 2
    assert internet.dialed == [PUBLIC]


def test_the_next_address_is_tried_when_one_is_dead(serve: ServerFactory, internet: Internet) -> None:
    server = serve()
    internet.dns("hook.example", ["93.184.216.1", "93.184.216.1", PUBLIC])
    internet.routes[PUBLIC] = server.port
    assert post("http://hook.example/", allow_private=False).status == 200
    assert internet.dialed == ["93.184.216.1", PUBLIC]


def test_only_a_few_addresses_of_a_name_are_tried(internet: Internet) -> None:
    internet.dns("hook.example", [f"93.184.216.{n}" for n in range(1, 100)])
    with pytest.raises(TransportError, match=r"^connection refused$"):
        post("http://hook.example/", allow_private=False)
    assert len(internet.dialed) == 4


def test_a_name_that_cannot_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(connect, "_lookup", fail)
    with pytest.raises(TransportError, match=r"^DNS: cannot resolve hook\.example: Name or service") as caught:
        post("http://hook.example/")
    assert caught.value.reason == "DNS"
