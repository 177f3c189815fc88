"""The probe's port under clients that mean no good."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from fourlane.worker.process.health import Health
from fourlane.worker.process.probe import Page, Probe


@pytest.fixture
def probe() -> Iterator[Probe]:
    opened = Probe(0, lambda: Health(True, True, {}), host="127.0.0.1")
    yield opened
    opened.close()


def live(probe: Probe, host: str = "127.0.0.1") -> bool:
    with urllib.request.urlopen(f"http://{host}:{probe.port}/live", timeout=5) as reply:
        return bool(json.load(reply)["live"])


def raw(probe: Probe, request: str) -> tuple[list[bytes], bytes]:
    """Head and body of a reply, as they come."""
    with socket.create_connection(("127.0.0.1", probe.port), timeout=5) as connection:
        connection.sendall(f"{request} HTTP/1.0\r\n\r\n".encode())
        head, _, body = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n\r\n")
    return [line for line in head.split(b"\r\n") if not line.startswith(b"Date:")], body


@pytest.mark.parametrize("path", ["/live", "/ready?of=it", "/metrics", "/nothing"])
def test_head_is_get_without_the_body(path: str) -> None:
    pages = {"/metrics": lambda accept: Page(200, "text/plain", b"jobs 1\n")}
    probe = Probe(0, lambda: Health(True, False, {}), host="127.0.0.1", pages=pages)
    try:
        head, body = raw(probe, f"GET {path}")
        assert body
        assert raw(probe, f"HEAD {path}") == (head, b"")
    finally:
        probe.close()


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /live", b"200 OK"),
        ("GET http://h/live", b"404 Not Found"),
        ("POST /live", b"501 Not Implemented"),
        ("GET /li ve", b"400 Bad Request"),
        ("GET /" + "a" * 9_000, b"431 Request Header Fields Too Large"),
        ("GET /live HTTP/1.1\r\n" + "a: b\r\n" * 101 + "c:", b"431 Request Header Fields Too Large"),
    ],
)
def test_what_is_asked_otherwise(probe: Probe, request_line: str, status: bytes) -> None:
    head, _ = raw(probe, request_line)
    assert head[0] == b"HTTP/1.0 " + status


def test_connections_that_are_only_held_keep_nobody_out(probe: Probe) -> None:
    before = threading.active_count()
    with ExitStack() as held:
        for number in range(100):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", probe.port), timeout=5))
            connection.sendall(b"GET /live HT" if number % 2 else b"")
            assert threading.active_count() <= before + 20
        assert [live(probe) for _ in range(5)] == [True] * 5
    assert live(probe)


def test_connections_that_are_reset_keep_no_place(probe: Probe) -> None:
    for _ in range(50):
        connection = socket.create_connection(("127.0.0.1", probe.port), timeout=5)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    assert live(probe)


@pytest.mark.parametrize(("host", "others"), [("127.0.0.1", False), ("0.0.0.0", True), ("", True)])
def test_it_listens_where_it_is_told(host: str, others: bool) -> None:
    probe = Probe(0, lambda: Health(True, True, {}), host=host)
    try:
        assert live(probe)
        if others:
            assert live(probe, "127.0.0.2")
        else:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", probe.port), timeout=5)
    finally:
        probe.close()
