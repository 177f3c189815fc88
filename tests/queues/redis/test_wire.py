"""A connection of our own, where redis-py's are not used: what it says and understands."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import redis.exceptions

from fourlane.errors import RedisUnavailable, SettingsError
from fourlane.queues.redis import Connector, client_of, connect, failures
from fourlane.queues.redis.wire import Server, Wire
from tests.servers import Server as Redis

OPTIONS = {"socket_timeout": 5.0, "socket_connect_timeout": 5.0}


@pytest.mark.parametrize(
    ("url", "options", "greeting"),
    [
        ("redis://h", {}, [("HELLO", 3)]),
        ("redis://:p%40ss@h/2", {}, [("HELLO", 3, "AUTH", "default", "p@ss"), ("SELECT", 2)]),
        ("redis://u:p@h", {"protocol": 2, "db": 1}, [("AUTH", "u", "p"), ("SELECT", 1)]),
        ("redis://:p@h", {"protocol": 2}, [("AUTH", "p")]),
        ("redis://h", {"username": "u", "password": "p"}, [("HELLO", 3, "AUTH", "u", "p")]),
        ("redis://h/1", {"db": 2, "client_name": "me"}, [("HELLO", 3), ("CLIENT", "SETNAME", "me"), ("SELECT", 1)]),
        ("unix://:p@/run/r.sock", {"db": 3}, [("HELLO", 3, "AUTH", "default", "p"), ("SELECT", 3)]),
    ],
)
def test_what_is_said_first(url: str, options: dict[str, Any], greeting: list[Any]) -> None:
    assert Server(url, options).greeting() == greeting


@pytest.mark.parametrize(
    ("reply", "kind", "text", "word"),
    [
        ("ERR unknown command", failures.ResponseError, "unknown command", "ERR"),
        ("ERR invalid password", failures.AuthenticationError, "invalid password", "ERR"),
        ("ERR max number of clients reached", failures.ConnectionError, "max number of clients reached", "ERR"),
        ("NOSCRIPT No matching script.", failures.NoScriptError, "No matching script.", "NOSCRIPT"),
        ("NOAUTH Authentication required.", failures.AuthenticationError, "Authentication required.", "NOAUTH"),
        ("WRONGPASS invalid", failures.AuthenticationError, "invalid", "WRONGPASS"),
        ("LOADING Redis is loading", failures.ConnectionError, "Redis is loading", "LOADING"),
        ("OOM command not allowed", failures.ResponseError, "command not allowed", "OOM"),
        ("MISCONF Redis is configured", failures.ResponseError, "MISCONF Redis is configured", ""),
        ("BUSY", failures.ResponseError, "BUSY", ""),
    ],
)
def test_an_answer_that_is_an_error_is_as_redis_py_has_it(
    reply: str, kind: type[failures.RedisError], text: str, word: str
) -> None:
    ours = failures.answered(reply)
    assert (type(ours), str(ours), ours.word) == (kind, text, word)


def test_errors_of_redis_py_become_ours() -> None:
    lost = redis.exceptions.ConnectionError("gone")
    lost.__context__ = FileNotFoundError(2, "no")
    ours = failures.of(lost)
    assert type(ours) is failures.ConnectionError
    assert (str(ours), ours.below) == ("gone", lost.__context__)
    full = failures.of(redis.exceptions.OutOfMemoryError("no", status_code="OOM"))
    assert type(full) is failures.ResponseError
    assert full.word == "OOM"
    other = KeyError("x")
    assert failures.of(other) is other


def answering(*replies: bytes) -> int:
    """A server that takes one connection and gives these replies, one to each piece that comes; returns its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listening, listening.accept()[0] as taken:
            for reply in replies:
                taken.recv(4096)
                taken.sendall(reply)

    threading.Thread(target=serve, daemon=True).start()
    return int(listening.getsockname()[1])


def test_what_a_server_tells_unasked_is_passed_over() -> None:
    port = answering(b"%0\r\n", b">2\r\n+invalidate\r\n*1\r\n+k\r\n:7\r\n")
    wire = Wire(Server(f"redis://127.0.0.1:{port}", OPTIONS), 5.0)
    wire.connect()
    wire.send_packed_command([b"*1\r\n$1\r\nX\r\n"])
    assert wire.read_response() == 7
    with pytest.raises(failures.ConnectionError, match=r"Connection closed by server\."):
        wire.read_response()
    wire.disconnect()


def test_what_is_no_reply_ends_the_connection() -> None:
    link = Connector(client_of(f"redis://127.0.0.1:{answering(b'%0' + bytes([13, 10]), b'!?')}")).open(b"k")
    with pytest.raises(RedisUnavailable, match="Protocol error"):
        link.command("GET", "k")
    assert link.connection._sock is None


def test_replies_are_those_of_redis_py(redis_server: Redis) -> None:
    link = Connector(client_of(redis_server.url)).open(b"k")
    borrowed = Connector(connect(redis_server.url)).open(b"k")
    link.command("ZADD", "z", "1.5", "a")
    link.command("HSET", "h", "a", "1")
    link.command("SADD", "s", "a")
    for words in (
        ("ZSCORE", "z", "a"), ("ZRANGE", "z", 0, -1, "WITHSCORES"), ("HGETALL", "h"), ("SMEMBERS", "s"),
        ("GET", "none"), ("EVAL", "return {1, 'a', false, {true}}", 0), ("CLIENT", "GETNAME"), ("PING",),
    ):  # fmt: skip
        assert link.command(*words) == borrowed.command(*words), words
    link.close()
    borrowed.close()


@pytest.mark.parametrize("url", ["redis://h:none", "redis://h:700000"])
def test_an_address_that_cannot_be_read(url: str) -> None:
    with pytest.raises(SettingsError, match="its port or one of its options cannot be read"):
        client_of(url)
