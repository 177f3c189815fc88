"""One deadline for all of a call, and a bound for its answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from fourlane.providers.http import TransportError, names
from tests.providers.http.servers import (
    OK,
    PUBLIC,
    Request,
    ServerFactory,
    post,
    read_request,
    redirect_to,
)

Talk = Callable[[socket.socket], None]

pytestmark = pytest.mark.usefixtures("way")


def drip(stopping: Callable[[], threading.Event], text: bytes) -> Callable[[socket.socket], None]:
    """Send `text`, then a byte every 20 ms for as long as anybody listens."""

    def talk(conn: socket.socket) -> None:
        conn.sendall(text)
        while not stopping().wait(0.02):
            conn.sendall(b"x")

    return talk


@pytest.mark.parametrize(
    "beginning",
    [
        b"",  # drips the status line
        b"HTTP/1.1 200 OK\r\nx-slow: ",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
    ids=["status", "header", "body", "body-without-length"],
)
def test_a_dripping_server_ends_at_the_deadline(serve: ServerFactory, beginning: bytes) -> None:
    server = serve(talk=drip(lambda: server.stopping, beginning))
    started = time.monotonic()
    with pytest.raises(TransportError) as caught:
        post(server.url, timeout_seconds=0.4)
    assert caught.value.reason == "timeout"
    assert 0.4 <= time.monotonic() - started < 10


def test_a_silent_tls_handshake_ends_at_the_deadline(serve: ServerFactory) -> None:
    stopping = threading.Event()

    def keep_silent(conn: socket.socket) -> None:
        stopping.wait(30)

    server = serve(talk=keep_silent)
    started = time.monotonic()
    with pytest.raises(TransportError, match=r"^timeout: in the TLS handshake"):
        post(server.url.replace("http:", "https:"), timeout_seconds=1)
    assert time.monotonic() - started < 10
    stopping.set()


def test_a_server_that_reads_too_slowly_ends_at_the_deadline(serve: ServerFactory) -> None:
    def sip(conn: socket.socket) -> None:
        while not server.stopping.wait(0.02):
            conn.recv(64 * 1024)

    server = serve(talk=sip)
    started = time.monotonic()
    with pytest.raises(TransportError, match=r"^timeout"):
        post(server.url, body=bytes(64_000_000), timeout_seconds=0.4)
    assert time.monotonic() - started < 10


def test_a_slow_name_server_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def stall(host: str) -> list[str]:
        released.wait(30)
        return [PUBLIC]

    monkeypatch.setattr(names, "_lookup", stall)
    started = time.monotonic()
    try:
        with pytest.raises(TransportError, match=r"^timeout: resolving hook\.example"):
            post("http://hook.example/", timeout_seconds=1)
    finally:
        released.set()
    assert time.monotonic() - started < 10


def test_redirects_share_one_deadline(serve: ServerFactory) -> None:
    def late(request: Request) -> bytes:
        server.stopping.wait(0.2)
        return redirect_to("/hook")(request)

    server = serve(late)
    with pytest.raises(TransportError, match=r"^timeout"):
        post(server.url, timeout_seconds=0.5, max_redirects=100)
    assert len(server.requests) <= 3


def test_an_endless_body_is_cut_and_the_connection_closed(serve: ServerFactory) -> None:
    hung_up = threading.Event()

    poured = 0

    def pour(conn: socket.socket) -> None:
        nonlocal poured
        read_request(conn)
        conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
        try:
            while not server.stopping.is_set():
                poured += conn.send(b"x" * 65536)
        except OSError:
            hung_up.set()

    server = serve(talk=pour)
    response = post(server.url, keep_body_bytes=1000)

    assert (response.status, response.body) == (200, b"x" * 1000)
    assert poured < 20_000_000  # what lies in sockets' buffers
    assert hung_up.wait(30)


@pytest.mark.parametrize("size", [0, 2047, 2048, 2049])
def test_the_body_is_cut_where_it_was_said(serve: ServerFactory, size: int) -> None:
    answer = f"HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n".encode() + b"x" * size
    server = serve(lambda request: answer)
    assert len(post(server.url).body) == min(size, 2048)


def test_a_compressed_body_is_left_compressed(serve: ServerFactory) -> None:
    server = serve(lambda request: OK.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"))
    assert post(server.url).body == b"ok"


def pouring(server: Callable[[], threading.Event], beginning: bytes, again: bytes, pause_seconds: float = 0) -> Talk:
    """Answer with `beginning`, then with `again` for as long as anybody listens."""

    def talk(conn: socket.socket) -> None:
        read_request(conn)
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn.sendall(beginning)
        while not server().wait(pause_seconds):
            conn.sendall(again)

    return talk


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("beginning", "again", "pause_seconds", "why"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, 0, "over 20 interim answers"),
        (HEAD + b"x-crumbs: ", b"x", 0.0005, "too small pieces"),
        (CHUNKED, b"1;" + b"x" * 30_000 + b"\r\nx\r\n", 0, "mostly framing"),
        (CHUNKED, b"1;" + b"x" * 100_000, 0, "Receive buffer too long"),
        (CHUNKED + b"0\r\n", b"x: y\r\n" * 1000, 0, "Receive buffer too long"),
    ],
    ids=["interim", "crumbs", "chunk-extensions", "one-extension", "trailers"],
)
def test_an_answer_costs_its_sender_more_than_us(
    serve: ServerFactory, beginning: bytes, again: bytes, pause_seconds: float, why: str
) -> None:
    server = serve(talk=pouring(lambda: server.stopping, beginning, again, pause_seconds))
    cpu = time.process_time()
    with pytest.raises(TransportError, match=f"^protocol: .*{why}"):
        post(server.url, timeout_seconds=10)
    assert time.process_time() - cpu < 2, "the receiver's own part is in it"


def test_some_interim_answers_are_passed_over(serve: ServerFactory) -> None:
    server = serve(lambda request: b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 20 + OK)
    assert post(server.url).body == b"ok"
