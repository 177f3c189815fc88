"""A server that takes the flag of queues/redis/scripts.py, as the hosted one does; in its place stands a real server
behind a proxy that knows the flag and nothing else of it.
"""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from typing import IO
from urllib.parse import urlsplit, urlunsplit

import pytest

import fourlane
from fourlane.queues.broker import RedisBroker
from fourlane.queues.redis.scripts import FLAG
from tests.conftest import StartServer
from tests.servers import eventually
from tests.worker.conftest import RunWorker, run_worker

__all__ = ["run_worker"]


class FlagProxy:
    """Takes the flag off the scripts that carry it, and counts the calls with it and without."""

    def __init__(self, url: str) -> None:
        self.target = urlsplit(url)
        self.known: dict[bytes, bytes] = {}
        self.flagged = self.plain = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return urlunsplit(self.target._replace(netloc=f"127.0.0.1:{self.listener.getsockname()[1]}"))

    def close(self) -> None:
        self.listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection((self.target.hostname or "", self.target.port or 6379))
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._replies, args=(server, client), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, client.makefile("rb") as stream:
            try:
                while words := self._read(stream):
                    server.sendall(self._write(self._unflagged(words)))
            except OSError:
                pass

    def _replies(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65_536):
                client.sendall(data)
        except OSError:
            pass

    def _unflagged(self, words: list[bytes]) -> list[bytes]:
        if words[0] == b"EVAL" and words[1].startswith(FLAG.encode()):
            source = words[1][len(FLAG) :]
            self.known[_sha(words[1])] = _sha(source)
            return [b"EVAL", source, *words[2:]]
        if words[0] == b"EVALSHA":
            self.flagged += words[1] in self.known
            self.plain += words[1] not in self.known
            return [b"EVALSHA", self.known.get(words[1], b"0" * 40), *words[2:]]
        return words

    @staticmethod
    def _read(stream: IO[bytes]) -> list[bytes]:
        head = stream.readline()
        words = []
        for _ in range(int(head[1:]) if head else 0):
            length = int(stream.readline()[1:])
            words.append(stream.read(length))
            stream.read(2)
        return words

    @staticmethod
    def _write(words: list[bytes]) -> bytes:
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _sha(source: bytes) -> bytes:
    return hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FlagProxy]:
    between = FlagProxy(redis_url)
    yield between
    between.close()


def test_scripts_carry_the_flag_where_it_is_taken(proxy: FlagProxy, namespace: str, run_worker: RunWorker) -> None:
    broker = RedisBroker(url=proxy.url, namespace=namespace)

    @fourlane.task(broker=broker, result_ttl_ms=60_000)
    def add(a: int, b: int) -> int:
        return a + b

    run_worker(broker)
    assert add.send(1, 2).result(5) == 3
    before = proxy.plain
    for number in range(10):
        assert add.send(number, 1).result(5) == number + 1
    assert proxy.plain == before <= 3
    assert proxy.flagged > 10
    broker.close()


def test_a_plain_server_is_asked_once(start_server: StartServer, namespace: str, run_worker: RunWorker) -> None:
    broker = RedisBroker(url=start_server().url, namespace=namespace)  # nobody else brings it scripts
    ran: list[int] = []

    @fourlane.task(broker=broker)
    def note(number: int) -> None:
        ran.append(number)

    run_worker(broker)
    note.send(1)
    eventually(lambda: ran == [1])
    assert broker.store.connector.scripts.flagged is False
    broker.close()
