from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fourlane.db import migrate
from fourlane.db.engine import Database, open_database
from fourlane.outbox.relay import Relay
from fourlane.queues.broker import RedisBroker
from fourlane.queues.store import Store
from fourlane.tasks.task import Task, task


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database; SQLite, then PostgreSQL."""
    opened = open_database(database_url)
    migrate.migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def broker(redis_url: str, namespace: str) -> Iterator[RedisBroker]:
    broker = RedisBroker(url=redis_url, namespace=namespace)
    yield broker
    broker.close()


@pytest.fixture
def store(broker: RedisBroker) -> Store:
    return broker.store


@pytest.fixture
def relay(database: Database, store: Store) -> Relay:
    return Relay(database, store)


@pytest.fixture
def resize(broker: RedisBroker) -> Task[Any, Any]:
    @task(broker=broker, service="images", tier="P0")
    def resize(*args: Any, **kwargs: Any) -> None: ...

    return resize
