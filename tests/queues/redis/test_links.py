"""Connections come and go for ever: cuts, refusals, many threads, strange clients and wrong URLs."""

from __future__ import annotations

import inspect
import os
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.sentinel import SentinelConnectionPool

from fourlane import codec
from fourlane.errors import RedisUnavailable, SettingsError
from fourlane.job import new_id
from fourlane.queues.redis import Connector, client_of, connect, may_come
from fourlane.queues.rights import check_whole
from fourlane.queues.store import Store
from fourlane.worker.process.reachable import when_reachable
from tests.proxy import FaultyProxy
from tests.servers import Server, eventually, free_port

KEY = b"key"


@pytest.fixture
def connector(redis_server: Server) -> Iterator[Connector]:
    opened = Connector(client_of(redis_server.url))
    yield opened
    opened.close()


def sockets(port: int) -> int:
    """Those that this process has open to a port of this machine: other tests' may close meanwhile."""
    own = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            own.add(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            pass  # the folder's own
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(f"socket:[{line[9]}]" in own for line in lines if int(line[2].rpartition(":")[2], 16) == port)


@pytest.mark.parametrize("option", ["", "?max_connections=2"])
def test_many_threads_at_once(redis_server: Server, option: str) -> None:
    connector = Connector(client_of(redis_server.url + option))
    before = sockets(redis_server.port)
    redis_server.pause()  # all are in the middle of a call then
    with ThreadPoolExecutor(120) as pool:
        calls = [pool.submit(connector.command, KEY, "RPUSH", KEY, n) for n in range(120)]
        eventually(lambda: sockets(redis_server.port) - before >= 120)
        redis_server.resume()
        assert sorted(call.result() for call in calls) == list(range(1, 121))
    connector.close()
    assert sockets(redis_server.port) == before


def test_more_idle_links_than_are_kept(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fourlane.queues.redis.connector.MOST_IDLE", 3)
    connector = Connector(client_of(redis_server.url))
    before = sockets(redis_server.port)
    redis_server.pause()
    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(connector.command, KEY, "PING") for n in range(10)]
        eventually(lambda: sockets(redis_server.port) - before >= 10)
        redis_server.resume()
        assert all(call.result() == b"PONG" for call in calls)
    assert sockets(redis_server.port) == before + 3
    connector.close()


def test_a_thousand_links_one_after_the_other(redis_server: Server, connector: Connector) -> None:
    before = sockets(redis_server.port)
    for _ in range(1_000):
        link = connector.open(KEY)
        assert link.command("PING") == b"PONG"
        link.close()
    assert sockets(redis_server.port) == before
    assert connector.command(KEY, "PING") == b"PONG"


def test_more_cuts_than_a_pool_has_connections(redis_server: Server) -> None:
    with FaultyProxy("127.0.0.1", redis_server.port) as proxy:
        connector = Connector(client_of(proxy.url(redis_server.url)))
        before = sockets(proxy.port)

        def pinged(_: int) -> object:
            return connector.command(KEY, "PING")

        with ThreadPoolExecutor(30) as pool:
            for _ in range(5):
                assert set(pool.map(pinged, range(90))) == {b"PONG"}
                proxy.cut()
        assert connector.command(KEY, "PING") == b"PONG"
        connector.close()
        eventually(lambda: sockets(proxy.port) <= before)


def test_a_thousand_refusals(redis_server: Server) -> None:
    store = Store(Connector(client_of(redis_server.url)))
    body = codec.encode("send")
    store.enqueue("mail", 1, (new_id(1, 1), body))
    connected = redis_server.command("INFO", "stats")["total_connections_received"]
    redis_server.config("SET", "maxmemory", "1")
    for n in range(1_000):
        with pytest.raises(RedisUnavailable, match="out of memory"):
            store.enqueue("mail", 1, (new_id(1, n), body))
    redis_server.config("SET", "maxmemory", "0")
    store.enqueue("mail", 1, (new_id(1, 1_001), body))
    assert redis_server.command("INFO", "stats")["total_connections_received"] - connected < 10
    store.connector.close()


def test_an_interrupt_amid_a_reply(connector: Connector) -> None:
    class Stop(BaseException):
        pass

    def interrupted(link: Any) -> None:
        link.send("ECHO", "for nobody")
        raise Stop

    connector.command(KEY, "PING")
    with pytest.raises(Stop):
        connector._repeat(KEY, interrupted)
    assert connector.command(KEY, "ECHO", "mine") == b"mine"


# Clients that are given -------------------------------------------------------------------------------------


def test_the_pool_of_a_client_that_is_given_is_left_alone(redis_server: Server) -> None:
    pool = redis.BlockingConnectionPool.from_url(redis_server.url, max_connections=1, decode_responses=True)
    client = redis.Redis(connection_pool=pool)
    connector = Connector(client)
    links = [connector.open(KEY) for _ in range(5)]
    assert [link.command("ECHO", "ä") for link in links] == ["ä".encode()] * 5
    assert client.echo("ä") == "ä"
    for link in links:
        link.close()
    connector.close()


def test_sentinels_are_asked_each_time(redis_server: Server) -> None:
    class Manager:
        """In the place of sentinels: they say where the master is."""

        asked = 0

        def discover_master(self, name: str) -> tuple[str, int]:
            self.asked += 1
            return "127.0.0.1", redis_server.port

    manager = Manager()
    pool = SentinelConnectionPool("main", manager)  # type: ignore[no-untyped-call]
    connector = Connector(redis.Redis(connection_pool=pool))
    assert connector.command(KEY, "RPUSH", KEY, "x") == 1
    redis_server.command("CLIENT", "KILL", "TYPE", "normal")
    assert connector.command(KEY, "RPUSH", KEY, "x") == 2
    assert manager.asked == 2
    connector.close()


def test_a_client_that_would_try_for_long_does_not(redis_server: Server) -> None:
    """redis-py's own tries come on top of ours."""
    connector = Connector(redis.Redis(port=free_port()))
    tries: list[float] = []
    timer = threading.Timer(2.0, lambda: tries.append(1.0))
    timer.start()
    with pytest.raises(RedisUnavailable, match="is the server running"):
        connector.command(KEY, "PING")
    timer.cancel()
    assert not tries


class Strange(redis.Connection):
    error: Exception = RuntimeError("of its own")

    def _connect(self) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error", [RuntimeError("odd"), ValueError("odd"), TypeError("odd"), OverflowError("odd"), AttributeError("odd")]
)
def test_whatever_a_library_raises_has_our_name(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Strange, "error", error)
    connector = Connector(redis.Redis(connection_pool=redis.ConnectionPool(connection_class=Strange)))
    link = connector.open(KEY)
    for use in (
        lambda: link.command("PING"),
        lambda: link.send("PING"),
        link.fileno,
        lambda: link.run("latest", (KEY,), (1, 1)),
        lambda: connector.command(KEY, "PING"),
        lambda: connector.run("latest", (KEY,), (1, 1)),
        lambda: connector.run_once("enqueue", (KEY,), (1, 1), b"sent:"),
        lambda: connector.run_each_once("enqueue", (KEY,), [(1, 1)], b"sent:"),
    ):
        with pytest.raises(RedisUnavailable, match=r"odd \(check the address and the options"):
            use()


def test_a_connection_that_cannot_be_made() -> None:
    connector = Connector(redis.Redis(connection_pool=redis.ConnectionPool(familiy=0)))
    for use in (lambda: connector.open(KEY), lambda: list(connector.open_all()), lambda: connector.command(KEY, "X")):
        with pytest.raises(RedisUnavailable, match="familiy"):
            use()


def test_a_cluster_that_is_gone(cluster_urls: list[str]) -> None:
    client = redis.RedisCluster.from_url(cluster_urls[0])
    connector = Connector(client)
    assert connector.command(KEY, "PING") == b"PONG"

    class Gone:
        @staticmethod
        def initialize() -> None:
            raise redis.exceptions.RedisClusterException("Redis Cluster cannot be connected")

        def __getattr__(self, name: str) -> Any:
            raise redis.exceptions.SlotNotCoveredError("slot 1 not covered")

    client.nodes_manager = Gone()
    for use in (connector.refresh, lambda: connector.open(KEY), lambda: list(connector.open_all())):
        with pytest.raises(RedisUnavailable):
            use()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://h:port/0", "its port or one of its options cannot be read"),
        ("redis://:secret@h/0?connect_timeout=5", "its option connect_timeout is not known; leave it out"),
        ("redis://:secret@h/0?max_connections=many", "the value of its option max_connections cannot be read"),
        ("redis://:sec/ret@h/0", "what follows the host is no number of a database"),
        ("redis://h/abc", "what follows the host is no number of a database"),
        ("redis://:secret@h/0?protocol=5", "the value of its option protocol cannot be read; use 2 or 3"),
        ("redis://:secret@h/0?socket_timeout=inf", "the value of its option socket_timeout cannot be read"),
        ("redis://:secret@h/0?decode_responses=maybe", "the value of its option decode_responses .* true or false"),
        ("redis://:secret@h/0?ssl_cert_reqs=none", "its option ssl_cert_reqs is for rediss:// only"),
        ("unix:///run/s?socket_keepalive=1", "its option socket_keepalive is not for unix://"),
        ("rediss://:secret@h/0?ssl_cert_reqs=CERT_SECRET", "use none, optional or required"),
        ("rediss://:secret@h/0?ssl_min_version=TLS1", "the value of its option ssl_min_version .* 772"),
        ("rediss://h/0?ssl_include_verify_flags=VERIFY_secret", "its option ssl_include_verify_flags cannot be read"),
        ("redis://:my?secret=word@h/0", "its port or one of its options cannot be read"),
        ("redis://:my#secret@h/0", "its port or one of its options cannot be read"),
        ("redis://:secret@h/1?cluster=true", "a cluster has no database but 0"),
        ("redis://:secret@h?db=2&cluster=1", "a cluster has no database but 0"),
        ("redis://:secret@h/0?cluster=three", "the value of its option cluster cannot be read; use true or false"),
        ("unix:///run/s?cluster=true", "its option cluster is not for unix://"),
        ("http://:secret@h/0", "its port or one of its options cannot be read"),
    ],
)
def test_a_url_that_cannot_be_read(url: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        connect(url)
    assert "secret" not in str(caught.value)


def parameters_of_redis_py() -> set[str]:
    classes = (redis.connection.AbstractConnection, redis.Connection, redis.SSLConnection, redis.ConnectionPool)
    return {name for of in classes for name in inspect.signature(of).parameters} - {"kwargs", "connection_kwargs"}


def test_each_option_of_redis_py_is_read_or_named() -> None:
    """Most of them want objects of Python, which text cannot be."""
    taken = {"username", "password", "client_name", "ssl_password", "ssl_ciphers"}
    taken |= {"ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile"}
    assert taken < parameters_of_redis_py()
    for name in taken:
        connect(f"rediss://h/0?{name}=x").close()
    for name in parameters_of_redis_py() - taken:
        with pytest.raises(SettingsError, match=f"its option {name} "):
            connect(f"rediss://h/0?{name}=x")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://h?decode_responses=false", {"decode_responses": False}),
        ("redis://h?socket_timeout=2.5&socket_timeout=x", {"socket_timeout": 2.5}),
        ("redis://h?socket_keepalive=no", {"socket_keepalive": False}),
        ("rediss://h?ssl_min_version=772", {"ssl_min_version": ssl.TLSVersion.TLSv1_3}),
        ("redis://:p%2Fq@h/1?family=0", {"host": "h", "db": 1, "password": "p/q"}),
        ("unix:///run/redis.sock?family=4&db=1", {"path": "/run/redis.sock", "db": 1}),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", {"ssl_cert_reqs": "none"}),
        ("rediss://h?ssl_cert_reqs=CERT_REQUIRED&family=6", {"ssl_cert_reqs": "required"}),
        ("rediss://h?ssl_cert_reqs=optional", {"ssl_cert_reqs": "optional"}),
    ],
)
def test_urls_as_other_clients_write_them(url: str, options: dict[str, Any]) -> None:
    understood = connect(url).connection_pool.connection_kwargs
    assert {name: understood.get(name) for name in options} == options
    assert "family" not in understood


def test_a_url_may_say_that_its_server_is_of_a_cluster(cluster_urls: list[str], redis_url: str) -> None:
    connector = Connector(client_of(f"{cluster_urls[1]}?cluster=true"))
    assert connector.answering_within(1.0).clustered
    keys = [f"{{{number}}}" for number in range(20)]
    for key in keys:
        connector.command(key.encode(), "SET", key, key)
    assert [connector.command(key.encode(), "GET", key) for key in keys] == [key.encode() for key in keys]
    connector.close()
    assert not Connector(client_of(f"{cluster_urls[0]}?cluster=false&db=0")).clustered
    for url, told, waits in (
        (redis_url, r"leave cluster=true out of REDIS_URL", False),
        (f"redis://127.0.0.1:{free_port()}/0", "is the server running", True),
    ):
        with pytest.raises(RedisUnavailable, match=told) as caught:
            Connector(client_of(f"{url}?cluster=true")).command(KEY, "PING")
        assert may_come(caught.value) is waits


def test_one_node_of_a_cluster_is_no_whole_server(cluster_urls: list[str], connector: Connector) -> None:
    """Whatever slots it holds."""
    check_whole(Store(connector))
    for url in cluster_urls:
        node = Connector(client_of(url))
        with pytest.raises(RedisUnavailable, match=r"\?cluster=true") as caught:
            check_whole(Store(node))
        assert not may_come(caught.value)
        node.close()
    check_whole(Store(Connector(client_of(f"{cluster_urls[0]}?cluster=true"))))


def test_a_unix_socket(tmp_path: Any) -> None:
    with Server(tmp_path / "server", config={"unixsocket": "s.sock"}) as server:
        connector = Connector(client_of(f"unix://{server.folder}/s.sock?db=0"))
        assert connector.command(KEY, "PING") == b"PONG"
        connector.close()


def test_a_sockets_file_that_is_not_there_yet_is_waited_for(tmp_path: Any) -> None:
    server = Server(tmp_path / "server", config={"unixsocket": "s.sock"})
    connector = Connector(client_of(f"unix://{server.folder}/s.sock"))
    faults: list[str] = []

    def call() -> Any:
        try:
            return connector.command(KEY, "PING")
        except RedisUnavailable as error:
            if not faults:
                server.start()
            faults.append(str(error))
            raise

    try:
        assert when_reachable(call, 20) == b"PONG"
    finally:
        connector.close()
        server.stop()
    assert "is the server running" in faults[0]


def test_what_came_with_a_reply_is_known_without_the_socket(store: Store) -> None:
    link = store.connector.open(store.keys.services)
    link.command("PING")
    assert not link.has_reply()
    link.send("ECHO", "one")
    link.send("ECHO", "two")
    assert link.receive() == b"one"
    eventually(link.has_reply)
    assert link.receive() == b"two"
    assert not link.has_reply()
    link.close()


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://user:pa%40ss@h:1/2", "redis://h:1/2"),
        ("rediss://:secret@h:1?db=3", "rediss://h:1/3"),
        ("redis://:secret@[::1]:1/0", "redis://[::1]:1/0"),
        ("unix://:secret@/run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
    ],
)
def test_the_address_of_a_server(url: str, address: str) -> None:
    connector = Connector(client_of(url))
    assert connector.address == address
    connector.close()
