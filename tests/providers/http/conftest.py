"""Servers on loopback, and names of the internet."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest
import uvloop

from fourlane.providers import http
from tests.providers.http.servers import (
    OK,
    WAY,
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


@pytest.fixture(params=["threads", "asyncio", "uvloop"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """The ways in which the client runs; `post` takes it."""
    name: str = request.param
    if name == "threads":
        yield name
        return
    loop = asyncio.new_event_loop() if name == "asyncio" else uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    WAY.loop = loop
    yield name
    WAY.loop = None
    asyncio.run_coroutine_threadsafe(http.aclose(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
