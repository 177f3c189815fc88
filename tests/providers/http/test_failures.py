"""What else can go wrong, and how it is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fourlane.providers.http import TransportError
from tests.providers.http.servers import (
    ServerFactory,
    post,
    read_request,
)

pytestmark = pytest.mark.usefixtures("way")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(TransportError, match=r"^connection refused$"):
        post(f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "protocol"),  # hangs up without a word
        (b"SSH-2.0-OpenSSH_9.6" + b"x" * 500 + b"\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", "protocol"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 100_000, "protocol"),
    ],
    ids=["nothing", "ssh", "half", "upgrade", "endless-headers"],
)
def test_what_is_no_http_answer(serve: ServerFactory, answer: bytes, reason: str) -> None:
    def talk(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(answer)
        conn.shutdown(socket.SHUT_WR)
        conn.recv(1)

    server = serve(talk=talk)
    with pytest.raises(TransportError) as caught:
        post(server.url)
    assert caught.value.reason == reason
    assert len(str(caught.value)) < 200


def test_a_server_that_answers_early_and_hangs_up_is_still_heard(serve: ServerFactory) -> None:
    def early(conn: socket.socket) -> None:
        conn.recv(1)
        conn.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        conn.close()  # with most of the request unread, so that sending fails

    server = serve(talk=early)
    assert post(server.url, body=bytes(8_000_000)).status == 413


def test_importing_opens_nothing() -> None:
    script = """
        import threading
        from fourlane.providers.http import connect
        assert connect._tls_context.cache_info().currsize == 0
        assert threading.active_count() == 1
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    subprocess.run(command, check=True, env=os.environ, cwd=Path(__file__).parents[2])
