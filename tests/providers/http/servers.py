"""Servers of sockets, and an internet of names that lead to them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from fourlane.providers import http
from fourlane.providers.http import Response, loop, names, threads

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
PUBLIC = "93.184.216.34"


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """Answers each request with `answer`, or gives each connection to `talk` for anything odder."""

    answer: Callable[[Request], bytes] = lambda request: OK
    talk: Callable[[socket.socket], None] | None = None
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def stop(self) -> None:
        self.stopping.set()
        for sock in (self._listener, *self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(conn)
            thread = threading.Thread(target=self._serve, args=(conn,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, conn: socket.socket) -> None:
        with suppress(OSError), conn:
            if self.tls is not None:
                conn = self.tls.wrap_socket(conn, server_side=True)
                self._open.append(conn)
            if self.talk is not None:
                self.talk(conn)
                return
            while (request := read_request(conn)) is not None:
                self.requests.append(request)
                conn.sendall(self.answer(request))


def read_request(conn: socket.socket) -> Request | None:
    head = b""
    while b"\r\n\r\n" not in head:
        data = conn.recv(65536)
        if not data:
            return None
        head += data
    head, _, body = head.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(header.lower().split(": ", 1) for header in lines)
    while len(body) < int(headers.get("content-length", "0")):
        body += conn.recv(65536)
    return Request(line, headers, body)


ServerFactory = Callable[..., Server]


@dataclass
class Way:
    """How `post` calls: in its thread, or on an event loop in another."""

    loop: asyncio.AbstractEventLoop | None = None


WAY = Way()


def post(url: str, **options: Any) -> Response:
    arguments: dict[str, Any] = {"body": b"{}", "headers": {}, "timeout_seconds": 10, "allow_private": True} | options
    if WAY.loop is None:
        return http.post(url, **arguments)
    return asyncio.run_coroutine_threadsafe(http.apost(url, **arguments), WAY.loop).result(60)


def redirect_to(location: str, status: int = 307) -> Callable[[Request], bytes]:
    return lambda request: f"HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()


@dataclass
class Internet:
    """A world in which DNS says what a test wants, and public addresses lead to a server on loopback."""

    monkeypatch: pytest.MonkeyPatch
    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    routes: dict[str, int] = field(default_factory=dict)
    lookups: list[str] = field(default_factory=list)
    dialed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        dial, dial_on_loop = threads._dial, loop._dial

        def lookup(host: str) -> list[str]:
            self.lookups.append(host)
            if host not in self.answers:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            answers = self.answers[host]
            return answers.pop(0) if len(answers) > 1 else answers[0]

        def routed(address: str) -> int:
            self.dialed.append(address)
            if address not in self.routes:
                raise ConnectionRefusedError
            return self.routes[address]

        def routed_dial(address: str, port: int, seconds: float) -> socket.socket:
            return dial("127.0.0.1", routed(address), seconds)

        async def routed_dial_on_loop(address: str, port: int, seconds: float) -> socket.socket:
            return await dial_on_loop("127.0.0.1", routed(address), seconds)

        self.monkeypatch.setattr(names, "_lookup", lookup)
        self.monkeypatch.setattr(threads, "_dial", routed_dial)
        self.monkeypatch.setattr(loop, "_dial", routed_dial_on_loop)

    def dns(self, host: str, *answers: list[str]) -> None:
        """Each look-up of the host takes the next answer; the last one stays."""
        self.answers[host] = list(answers)
