"""The endpoint over real sockets, on a WSGI and an ASGI server, and how often one may come."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx
import pytest
import uvicorn

from fourlane.errors import DatabaseUnavailable
from fourlane.queues import browse
from fourlane.queues.broker import RedisBroker
from fourlane.webhooks import asgi, wsgi
from fourlane.webhooks.receive import Receiver, Refusal
from tests.servers import eventually
from tests.webhooks.test_receive import broker as broker
from tests.webhooks.test_receive import event, headers, receiver


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def by_wsgi(given: Receiver, **options: Any) -> Iterator[str]:
    server: WSGIServer = make_server("127.0.0.1", 0, wsgi.application(given, **options), handler_class=Quiet)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def by_asgi(given: Receiver, **options: Any) -> Iterator[str]:
    config = uvicorn.Config(
        asgi.application(given, **options), port=0, log_config=None, lifespan="on", ws="none", proxy_headers=False
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


WAYS = pytest.mark.parametrize("serve", [by_wsgi, by_asgi])


@WAYS
def test_the_endpoint(broker: RedisBroker, serve: Any) -> None:
    body = event()
    with serve(receiver()) as endpoint:
        path = f"{endpoint}/api/webhooks/stripe"
        answer = httpx.post(path, content=body, headers=headers(body))
        assert (answer.status_code, answer.json()["id"]) == (200, "evt_1")
        assert answer.headers["Content-Type"] == "application/json"
        assert browse.job(broker.store, answer.json()["job"]).task == "fourlane.webhooks.handle"
        forged = httpx.post(path, content=body, headers={"Stripe-Signature": "t=1,v1=00"})
        assert (forged.status_code, forged.json()["error"]["code"]) == (401, "UNAUTHORIZED")
        wrong = httpx.get(path)
        assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")
        assert httpx.post(f"{endpoint}/api/webhooks/other", content=b"{}").status_code == 404
        assert httpx.post(f"{endpoint}/", content=b"{}").status_code == 404
        assert httpx.post(path, content=b"x" * 600_000).status_code == 413
        assert httpx.post(path, content=body, headers=headers(body)).status_code == 200, "it still serves"


def test_a_body_in_pieces(broker: RedisBroker) -> None:
    body = event(subject="x" * 200_000)
    with by_asgi(receiver()) as endpoint:
        pieces = (body[first : first + 10_000] for first in range(0, len(body), 10_000))
        answer = httpx.post(f"{endpoint}/api/webhooks/stripe", content=pieces, headers=headers(body))
        assert answer.status_code == 200, answer.text


def test_no_more_is_read_than_may_be(broker: RedisBroker) -> None:
    """An endless body is refused, and not kept."""
    with by_asgi(receiver(max_bytes=50_000)) as endpoint:
        place = urlsplit(endpoint)
        with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
            connection.sendall(b"POST /api/webhooks/stripe HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(8):
                connection.sendall(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_who_leaves_in_the_middle_has_sent_nothing(broker: RedisBroker) -> None:
    body = event()
    took: list[bytes] = []

    class Watched(Receiver):
        def take(self, provider: str, headers: Any, raw_body: bytes, *, address: str = "") -> Any:
            took.append(raw_body)
            return super().take(provider, headers, raw_body, address=address)

    watched = Watched(receiver()._senders)
    with by_asgi(watched) as endpoint:
        place = urlsplit(endpoint)
        head = f"POST /api/webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
            connection.sendall(head.encode() + body[:20])
        answer = httpx.post(f"{endpoint}/api/webhooks/stripe", content=body, headers=headers(body))
        assert answer.status_code == 200
    assert took == [body]


@WAYS
def test_who_comes_too_often_waits(broker: RedisBroker, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    refused: list[Refusal] = []
    body = event()
    signed = headers(body)
    with serve(receiver(per_minute=3, report=refused.append), proxies=1) as endpoint:
        path = f"{endpoint}/api/webhooks/stripe"

        def post(address: str, provider: str = "stripe", **more: str) -> httpx.Response:
            given = signed | {"X-Forwarded-For": address} | more
            return httpx.post(f"{endpoint}/api/webhooks/{provider}", content=body, headers=given)

        assert [post("1.1.1.1").status_code for _ in range(4)] == [200, 200, 200, 429]
        answer = post("6.6.6.6, 1.1.1.1")
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "RATE_LIMIT_EXCEEDED")
        assert 1 <= int(answer.headers["Retry-After"]) <= 20
        assert post("2.2.2.2").status_code == 200, "others are not held up"
        assert post("1.1.1.1", "supabase").status_code == 503, "nor another provider"
        assert path in str(answer.url)
    assert [(one.reason, one.address) for one in refused[:2]] == [("rate", "1.1.1.1")] * 2


def test_a_flood_costs_neither_signatures_nor_lines(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taker = receiver(per_minute=1)
    body = event()
    assert taker.receive("stripe", {}, body, address="1.1.1.1").status == 401
    assert taker.receive("another", {}, body, address="1.1.1.1").status == 404
    monkeypatch.setattr("fourlane.webhooks.receive.verify", None)
    for n in range(200):
        assert taker.receive("stripe", {}, body, address="1.1.1.1").status == 429
        assert taker.receive(f"other{n}", {}, b"", address="1.1.1.1").status == 429  # they share one bucket
    assert len(taker._gates._rates) == 2
    assert len(caplog.records) < 70


@pytest.mark.parametrize(
    ("trouble", "traceback"),
    [(DatabaseUnavailable("database: away"), False), (RuntimeError("a fault of ours"), True)],
)
def test_a_refusal_that_cannot_be_recorded_is_refused_all_the_same(
    caplog: pytest.LogCaptureFixture, trouble: Exception, traceback: bool
) -> None:
    def report(refusal: Refusal) -> None:
        raise trouble

    assert receiver(report=report).receive("stripe", {}, event()).status == 401
    told = [record for record in caplog.records if "could not be recorded" in record.getMessage()]
    assert ['File "' in record.getMessage() for record in told] == [traceback]
