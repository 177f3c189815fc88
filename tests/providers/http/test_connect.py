"""Names: every address is checked, and the one that was checked is connected to."""

from __future__ import annotations

import pytest

from fourlane.providers.http import TransportError
from tests.providers.http.servers import (
    PUBLIC,
    Internet,
    ServerFactory,
    post,
)

pytestmark = pytest.mark.usefixtures("way")


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
    with pytest.raises(TransportError) as caught:
        post("http://hook.example/", allow_private=False)
    assert internet.dialed == []
    assert caught.value.private is (inside != "169.254.169.254")
    assert inside not in caught.value.detail


def test_who_gave_the_url_does_not_learn_which_names_we_have(internet: Internet) -> None:
    """A name of ours and one that nobody has: the same kind of error, the same words."""
    internet.dns("db.internal", ["10.0.0.5"])
    errors = []
    for name in ("db.internal", "nothing.internal"):
        with pytest.raises(TransportError) as caught:
            post(f"http://{name}/", allow_private=False)
        errors.append(caught.value)
    ours, nobodys = errors
    assert str(ours) == str(nobodys) == "DNS: the name leads to no address that may be called"
    assert ours.reason == nobodys.reason
    assert ours.detail == "db.internal is a private address"
    assert nobodys.detail == "cannot resolve nothing.internal: Name or service not known"


def test_a_name_that_changes_its_mind_is_looked_up_once(serve: ServerFactory, internet: Internet) -> None:
    server = serve(lambda request: b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    internet.dns("rebind.example", [PUBLIC], ["127.0.0.1"])
    internet.routes = {PUBLIC: server.port, "127.0.0.1": server.port}

    assert post("http://rebind.example/", allow_private=False).status == 200
    with pytest.raises(TransportError, match=r"^DNS: "):
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
