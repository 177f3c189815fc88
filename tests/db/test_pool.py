"""A process holds as many connections as its setting says, whatever parts of it use the database at once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from fourlane import crypto
from fourlane.config import load_settings
from fourlane.db import ai_rows
from fourlane.db.engine import open_database
from fourlane.db.models import JobOutbox
from fourlane.db.security import record_refusal
from fourlane.db.setup import database
from fourlane.outbox.listen import Bell
from fourlane.outbox.relay import relay_of
from fourlane.queues.redis import Connector
from fourlane.queues.redis import connect as connect_redis
from fourlane.queues.store import Store
from fourlane.root import Root
from fourlane.storage.database import DatabaseStorage
from fourlane.tasks.billing.runs import latest
from fourlane.tasks.notifications.setup import kept_ledger
from fourlane.tasks.webhooks.endpoints import purge_older
from tests.postgres import connect
from tests.servers import eventually

SIZE = 3


@pytest.fixture
def store(redis_url: str, namespace: str) -> Iterator[Store]:
    opened = Store(Connector(connect_redis(redis_url)), namespace=namespace)
    yield opened
    opened.connector.close()


def test_all_parts_share_one_pool(
    migrated_postgres_url: str, store: Store, keys: crypto.Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOURLANE_ENCRYPTION_KEYS", crypto.new_key())
    settings = load_settings(
        database_url=migrated_postgres_url, database_pool_size=SIZE, database_pool_timeout_seconds=60
    )
    of = Root(settings)
    stop, faults = threading.Event(), []
    mover = relay_of(of, store)

    def again(work: Callable[[], object]) -> None:
        try:
            while not stop.wait(0.001):  # who gives a connection back and takes it at once leaves none to others
                work()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=mover.run, args=[stop])]
    threads += [threading.Thread(target=again, args=[work]) for work in _parts(of)]
    with _counted(migrated_postgres_url) as counts:
        for thread in threads:
            thread.start()
        eventually(lambda: mover.relayed > 10 and len(counts) > 20, 60)
        stop.set()
        for thread in threads:
            thread.join()
    of.close()
    assert faults == []
    assert max(counts) == SIZE  # none more, and all are used


def _parts(of: Root) -> list[Callable[[], object]]:
    """What writes and reads in a worker: rows of AI calls, refusals, files, billing, notifications, deliveries."""
    here, files = of.part(database), DatabaseStorage(of.part(database))

    def enqueue() -> None:
        with here.begin() as session:
            session.add(JobOutbox(task="resize", args="[]", kwargs="{}", options="{}"))

    def write() -> None:
        columns = {"operation": "generate", "provider": "p", "model": "m", "status": "ok"}
        ai_rows.write(here, {"id": uuid.uuid4(), **columns})

    return [
        enqueue,
        write,
        lambda: record_refusal(here, provider="stripe", reason="age", detail="", address="", unreported=0),
        lambda: files._write("a", b"x", "text/plain"),
        lambda: latest(here, None, 20),
        lambda: kept_ledger(of),
        lambda: purge_older(here, datetime(2026, 1, 1, tzinfo=UTC)),
    ]


@contextmanager
def _counted(url: str) -> Iterator[list[int]]:
    """How many connections others have to this database, asked again and again."""
    counts: list[int] = []
    stop = threading.Event()
    connection = connect(url)

    def count() -> None:
        cursor: Any = connection.cursor()
        while not stop.is_set():
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            counts.append(cursor.fetchone()[0])

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield counts
    finally:
        stop.set()
        thread.join()
        connection.close()


def test_who_listens_gives_the_place_back(migrated_postgres_url: str) -> None:
    opened = open_database(migrated_postgres_url, pool_size=2, pool_timeout_seconds=1)
    for _ in range(4):
        with Bell(opened) as bell:
            bell.wait(threading.Event(), 0)
            with opened.begin():
                pass
    with opened.begin(), opened.begin():  # both are there again
        pass
    opened.close()


@pytest.mark.parametrize(("size", "listens"), [(1, False), (2, True)])
def test_a_pool_of_one_is_not_given_to_who_only_listens(size: int, listens: bool) -> None:
    opened = open_database("postgresql://u:p@h/d", pool_size=size)
    assert opened.listens is listens
    opened.close()
