"""Fixtures of all tests: real servers (tests/servers.py), names that do not collide, a clean environment."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import dramatiq
import dramatiq.broker
import pytest
import redis
from hypothesis import settings

from fourlane import root
from fourlane.queues.broker import RedisBroker
from fourlane.root import Root
from fourlane.telling import Observer, tell
from tests.proxy import FaultyProxy
from tests.servers import Server, cluster

if TYPE_CHECKING:
    from tests.postgres import Postgres


MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
    # Where nothing waits for a disk: tests that need a full or slow one make it.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
# Each of the many interpreters that tests start would compile all of Fourlane.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


# ``pytest --hypothesis-profile fuzz``: by hand, for minutes.
settings.register_profile("fuzz", max_examples=20_000)


class StartServer(Protocol):
    """Starts a server with the options of :class:`tests.servers.Server`."""

    def __call__(self, **options: Any) -> Server: ...


Hear = Callable[[Observer], None]


@pytest.fixture
def hear() -> Iterator[Hear]:
    """Has an observer told until the test ends."""
    hearing: list[Observer] = []

    def add(observer: Observer) -> None:
        hearing.append(observer)
        tell.add(observer)

    yield add
    for observer in hearing:
        tell.remove(observer)


@pytest.fixture(autouse=True)
def clean_env(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's shell reaches a test."""
    for name in list(os.environ):
        if name.upper().startswith(("FOURLANE_", "AWS_", "OTEL_")) or name.upper() in {
            "REDIS_URL",
            "DATABASE_URL",
            "SENTRY_DSN",
        }:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def own_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """What a test opens by its settings is its own. Call it where a test goes on as a process with other settings."""
    made: list[Root] = []
    monkeypatch.setattr(root, "_root", made)

    def close() -> None:
        while made:
            made.pop().close()

    yield close
    close()


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server that tests share: TEST_REDIS_URL, or one of our own. Use ``namespace`` in every key."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield given
        return
    with Server(tmp_path_factory.mktemp("redis"), aof=False) as server:
        yield server.url


@pytest.fixture
def namespace(redis_url: str) -> Iterator[str]:
    """A word of this test alone; keys that contain it are deleted from the shared server afterwards."""
    name = "t" + uuid.uuid4().hex[:8]
    yield name
    with redis.Redis.from_url(redis_url) as client:
        keys = list(client.scan_iter(match=f"*{name}*", count=1000))
        for start in range(0, len(keys), 1000):
            client.unlink(*keys[start : start + 1000])


@contextmanager
def served_at(url: str, **options: Any) -> Iterator[RedisBroker]:
    """A broker there, dramatiq's global one meanwhile."""
    before = dramatiq.broker.global_broker
    opened = RedisBroker(url=url, **options)
    dramatiq.set_broker(opened)
    yield opened
    opened.close()
    dramatiq.broker.global_broker = before


@pytest.fixture
def broker(redis_url: str, namespace: str) -> Iterator[RedisBroker]:
    """A broker of this test's own on the shared server."""
    with served_at(redis_url, namespace=namespace) as opened:
        yield opened


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultyProxy]:
    """Between this test and the shared server."""
    parts = urlsplit(redis_url)
    with FaultyProxy(parts.hostname or "127.0.0.1", parts.port or 6379) as between:
        yield between


@pytest.fixture
def behind(proxy: FaultyProxy, redis_url: str, namespace: str) -> Iterator[RedisBroker]:
    """A broker whose every connection goes through the proxy."""
    with served_at(proxy.url(redis_url), namespace=namespace) as opened:
        yield opened


@pytest.fixture
def impatient(proxy: FaultyProxy, redis_url: str, namespace: str) -> Iterator[RedisBroker]:
    """Likewise, and it waits 0.3 s for an answer."""
    with served_at(f"{proxy.url(redis_url)}?socket_timeout=0.3", namespace=namespace) as opened:
        yield opened


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Starts servers of this test's own: ``start_server(password="x")``; they end with the test."""
    with ExitStack() as stack:
        number = 0

        def start(**options: Any) -> Server:
            nonlocal number
            number += 1
            return stack.enter_context(Server(tmp_path / f"server{number}", **options))

        yield start


@pytest.fixture
def redis_server(start_server: StartServer) -> Server:
    """A plain server of this test's own, to stop, kill, pause or configure."""
    return start_server()


@pytest.fixture
def own_broker(redis_server: Server) -> Iterator[RedisBroker]:
    """A broker on that server."""
    with served_at(redis_server.url) as opened:
        yield opened


@pytest.fixture(scope="session")
def cluster_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The nodes of a healthy cluster of three, shared by all tests."""
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield [node.url for node in nodes]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The PostgreSQL that tests share (tests/postgres.py). Use ``postgres_url``."""
    from tests.postgres import postgres

    with postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """An empty database of this test's own, as superuser."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database: the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def migrated_template(postgres_server: Postgres) -> Iterator[str]:
    """Where our tables are made once; ``migrated_postgres_url`` is a copy."""
    with postgres_server.database() as url:
        migrate(url)
        yield url.rpartition("/")[2]


@pytest.fixture
def migrated_postgres_url(postgres_server: Postgres, migrated_template: str) -> Iterator[str]:
    """A database of this test's own with our tables, as superuser."""
    with postgres_server.database(migrated_template) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Likewise, for ``migrated_sqlite_url``."""
    file = tmp_path_factory.mktemp("migrated") / "template.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture
def migrated_sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    """A file of this test's own with our tables."""
    shutil.copy(migrated_file, tmp_path / "test.db")
    return f"sqlite:///{tmp_path}/test.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest) -> str:
    """A database with our tables: the test runs once on SQLite and once on PostgreSQL."""
    name = {"sqlite": "migrated_sqlite_url", "postgresql": "migrated_postgres_url"}[request.param]
    url: str = request.getfixturevalue(name)
    return url


def migrate(url: str) -> None:
    """Make our tables in an empty database."""
    from fourlane.db import migrate
    from fourlane.db.engine import open_database

    database = open_database(url)
    migrate.migrate(database)
    database.close()


@pytest.fixture(scope="session")
def pgbouncer_port(postgres_server: Postgres) -> Iterator[int]:
    """PgBouncer in transaction mode before that server."""
    from tests.postgres import pgbouncer

    with pgbouncer(postgres_server.port) as port:
        yield port
