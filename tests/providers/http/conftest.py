"""Servers on loopback, and names of the internet."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from fourlane.providers import http
from tests.providers.http.servers import (
    OK,
    Internet,
    Request,
    Server,
    ServerFactory,
)


@pytest.fixture
def serve() -> Iterator[ServerFactory]:
    servers: list[Server] = []

    def start(
        answer: Callable[[Request], bytes] = lambda request: OK,
        talk: Callable[[socket.socket], None] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Server:
        servers.append(Server(answer, talk, tls))
        return servers[-1]

    yield start
    http.close()
    for server in servers:
        server.stop()


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Internet:
    return Internet(monkeypatch)
