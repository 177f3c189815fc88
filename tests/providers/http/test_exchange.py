"""What is sent and returned, to real servers on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from fourlane.providers.http import TargetRefused
from tests.providers.http.servers import (
    OK,
    ServerFactory,
    post,
    read_request,
)

pytestmark = pytest.mark.usefixtures("way")


def test_a_post_arrives_and_its_answer_returns(serve: ServerFactory) -> None:
    server = serve(lambda request: b"HTTP/1.1 202 Fine\r\nX-Note: hi\r\ncontent-length: 4\r\n\r\ndone")

    response = post(server.url + "?a=1#top", body=b"hello", headers={"X-Mine": "yes"})

    assert (response.status, response.body) == (202, b"done")
    assert response.headers["x-note"] == "hi"
    assert response.elapsed_ms > 0
    [request] = server.requests
    assert request.line == "POST /hook?a=1 HTTP/1.1"
    assert request.body == b"hello"
    assert request.headers["x-mine"] == "yes"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["accept-encoding"] == "identity"


def test_headers_that_frame_the_message_are_ours(serve: ServerFactory) -> None:
    server = serve()

    post(server.url, headers={"Host": "internal", "Content-Length": "9", "Transfer-Encoding": "chunked"})

    [request] = server.requests
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["content-length"] == "2"
    assert "transfer-encoding" not in request.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer s3cret\r\nx-injected: 1"},
        {"authorization": "Bearer s3cret\x00"},
        {"authorization": "Bearer s3cret €"},
        {"bad name s3cret": "x"},
    ],
)
def test_a_malformed_header_is_refused_without_showing_it(serve: ServerFactory, headers: dict[str, str]) -> None:
    server = serve()
    with pytest.raises(TargetRefused, match="header is malformed") as caught:
        post(server.url, headers=headers)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert server.requests == []


def test_a_small_body_leaves_the_connection_for_the_next_call(serve: ServerFactory) -> None:
    server = serve()
    for _ in range(3):
        post(server.url)
    assert (server.connections, len(server.requests)) == (1, 3)


def test_a_connection_that_the_server_closed_is_not_used_again(serve: ServerFactory) -> None:
    closed = threading.Event()

    def one_answer(conn: socket.socket) -> None:
        read_request(conn)
        conn.sendall(OK)
        conn.shutdown(socket.SHUT_RDWR)
        closed.set()

    server = serve(talk=one_answer)
    for _ in range(2):
        assert post(server.url).status == 200
        assert closed.wait(30)
    assert server.connections == 2


def test_many_threads_share_the_client(serve: ServerFactory) -> None:
    server = serve()
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.extend(post(server.url).status for _ in range(20))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 160
    assert server.connections <= 8


def test_a_forked_child_opens_connections_of_its_own(serve: ServerFactory) -> None:
    server = serve()
    script = """
        import os, sys
        from fourlane.providers import http
        from fourlane.providers.http import threads

        def post():
            return http.post(sys.argv[1], body=b"", headers={}, timeout_seconds=10, allow_private=True).status

        assert post() == 200
        threads._idle._lock.acquire()  # as if another thread were inside at the fork
        child = os.fork()
        if child == 0:
            os._exit(0 if post() == 200 else 1)
        threads._idle._lock.release()
        assert os.waitpid(child, 0)[1] == 0
        assert post() == 200
    """
    command = [sys.executable, "-c", textwrap.dedent(script), server.url]
    subprocess.run(command, check=True, timeout=30, cwd=Path(__file__).parents[2])
    assert (server.connections, len(server.requests)) == (2, 3)


def test_proxies_of_the_environment_are_not_used(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = serve(), serve()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    post(server.url)
    assert (proxy.connections, server.connections) == (0, 1)
