"""Bodies: not read before the gates, and bounded in size and time. Over real sockets."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from fourlane.queues.broker import RedisBroker
from fourlane.webhooks import asgi, wsgi, wsgi_body
from fourlane.webhooks.endpoint import length_of, misdirected
from fourlane.webhooks.receive import Refusal
from tests.webhooks.test_endpoint import WAYS, by_asgi
from tests.webhooks.test_receive import broker as broker
from tests.webhooks.test_receive import event, headers, receiver


def answered(endpoint: str, head: str, body: bytes = b"", path: str = "/api/webhooks/stripe") -> bytes:
    """The status line, though the body that was promised does not come."""
    place = urlsplit(endpoint)
    with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body)
        return connection.recv(1000).partition(b"\r\n")[0]


@WAYS
def test_who_is_turned_away_is_not_listened_to(broker: RedisBroker, serve: Any) -> None:
    told: list[Refusal] = []
    taker = receiver(per_minute=2, allow={"stripe": ["127.0.0.1"], "supabase": ["10.0.0.1"]}, report=told.append)
    with serve(taker) as endpoint:
        much = "Content-Length: 1000"
        assert b" 404 " in answered(endpoint, much, path="/elsewhere")
        assert b" 404 " in answered(endpoint, much, path="/api/webhooks/nobody")
        assert b" 403 " in answered(endpoint, much, path="/api/webhooks/supabase")
        assert b" 413 " in answered(endpoint, "Content-Length: 600000")
        assert b" 413 " in answered(endpoint, "Content-Length: 600000")
        assert b" 429 " in answered(endpoint, much)
    assert [one.reason for one in told] == ["unknown provider", "address", "size", "size", "rate"]


def test_a_body_that_drips_has_its_time(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.3)
    told: list[Refusal] = []
    with by_asgi(receiver(report=told.append)) as endpoint:
        place = urlsplit(endpoint)
        with socket.create_connection((place.hostname, place.port), timeout=10) as connection:
            connection.sendall(b"POST /api/webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n")
            with dripping(connection):
                answer = connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer
    assert [one.reason for one in told] == ["slow"]


@contextmanager
def dripping(connection: socket.socket) -> Iterator[None]:
    """A byte now and then, until it is over."""
    over = threading.Event()

    def drip() -> None:
        while not over.wait(0.05):
            try:
                connection.sendall(b"x")
            except OSError:
                return

    thread = threading.Thread(target=drip)
    thread.start()
    yield
    over.set()
    thread.join()


@contextmanager
def shown() -> Iterator[tuple[socket.socket, dict[str, Any]]]:
    """A connection's far end, and the environment of a server that shows it to the program, as gunicorn does."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as stream:
        yield theirs, {"wsgi.input": stream, "gunicorn.socket": ours, "CONTENT_LENGTH": "900"}


def test_a_dripping_body_is_ended_under_gunicorn() -> None:
    with shown() as (theirs, environ), dripping(theirs):
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            wsgi_body.read(environ, 900, 1000, 0.3)
        assert time.monotonic() - started < 5


def test_a_server_of_one_at_a_time_is_warned_of_once(broker: RedisBroker, caplog: pytest.LogCaptureFixture) -> None:
    request: Any = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.input": io.BytesIO()}
    endpoint = wsgi.application(receiver())
    for has_threads, warnings in ((True, 0), (False, 1), (False, 1)):
        endpoint(request | {"wsgi.multithread": has_threads}, lambda *_: lambda _: None)
        assert caplog.text.count("one request at a time") == warnings


def test_an_unwanted_body_is_ended_under_gunicorn() -> None:
    with shown() as (_, environ):
        wsgi_body.leave(environ)
        assert environ["wsgi.input"].read(900) == b""


def test_a_slow_body_of_another_server() -> None:
    """Its clock is looked at between pieces."""

    class Slow(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            time.sleep(0.02)
            return b"x"

    with pytest.raises(TimeoutError):
        wsgi_body.read({"wsgi.input": Slow()}, 900, 1000, 0.1)  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("environ", "length", "body"),
    [
        ({}, 5, b"hello"),
        ({}, None, b""),  # a server that does not know where it ends
        ({"wsgi.input_terminated": True}, None, b"hello wo"),  # a byte too many
        ({}, 11, b"hello wo"),
        ({}, 0, b""),
    ],
)
def test_how_much_is_read(environ: dict[str, Any], length: int | None, body: bytes) -> None:
    assert wsgi_body.read(environ | {"wsgi.input": io.BytesIO(b"hello world")}, length, 7, 10.0) == body


def test_who_leaves_in_the_middle_has_sent_nothing(broker: RedisBroker) -> None:
    told: list[Refusal] = []
    statuses: list[str] = []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/api/webhooks/stripe",
        "CONTENT_LENGTH": "900",
        "wsgi.input": io.BytesIO(b"he"),
    }
    wsgi.application(receiver(report=told.append))(environ, lambda status, _: statuses.append(status))  # type: ignore[arg-type,return-value]
    assert statuses == ["400 Bad Request"]
    assert told == []


def test_bodies_that_are_being_read_have_a_bound_together(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "_MOST_BYTES", 1_000)
    application = asgi.application(receiver())
    body = event(subject="x" * 500)

    async def post(first: asyncio.Event, go_on: asyncio.Event) -> int:
        sent: list[Any] = []
        pieces = [body[:400], body[400:]]

        async def receive() -> Any:
            if len(pieces) == 1:
                first.set()
                await go_on.wait()
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/api/webhooks/stripe", "headers": encoded(headers(body))}
        await application(scope, receive, send)
        return int(sent[0]["status"])

    async def two() -> list[int]:
        firsts, go_on = [asyncio.Event() for _ in range(3)], asyncio.Event()
        posts = [asyncio.create_task(post(first, go_on)) for first in firsts]
        await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
        go_on.set()
        return sorted(await asyncio.gather(*posts))

    answers = asyncio.run(two())
    assert answers[-1] == 503
    go_on = asyncio.Event()
    go_on.set()
    assert asyncio.run(post(asyncio.Event(), go_on)) == 200, "there is room again"


def encoded(given: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in given.items()]


@pytest.mark.parametrize(
    ("length", "status"),
    [("", 0), ("5", 0), ("9" * 5_000, 0), ("-5", 400), ("5, 5", 400), ("五", 400), ("²", 400), ("0x5", 400)],
)
def test_odd_lengths(length: str, status: int) -> None:
    answer = misdirected("POST", "/api/webhooks/stripe", length)
    assert (answer.status if answer else 0) == status
    if not status:
        assert length_of(length) == {"": None, "5": 5}.get(length, 2**63 - 1)
