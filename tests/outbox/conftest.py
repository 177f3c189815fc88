from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import make_url

from fourlane.db.engine import Database, open_database
from fourlane.outbox.relay import Relay
from fourlane.queues.broker import RedisBroker
from fourlane.queues.store import Store
from fourlane.tasks.task import Task, task


@pytest.fixture(params=["sqlite", "postgresql", "pgbouncer"])
def migrated_url(request: pytest.FixtureRequest) -> str:
    """A migrated database: SQLite, PostgreSQL, and PostgreSQL behind PgBouncer in transaction mode."""
    url: str = request.getfixturevalue(f"migrated_{'sqlite' if request.param == 'sqlite' else 'postgres'}_url")
    if request.param != "pgbouncer":
        return url
    port = request.getfixturevalue("pgbouncer_port")
    return make_url(url).set(port=port).render_as_string(hide_password=False)


@pytest.fixture
def pooled(request: pytest.FixtureRequest) -> bool:
    """Whether PgBouncer is in between."""
    return "pgbouncer_port" in request.fixturenames or "pgbouncer" in request.node.name


@pytest.fixture
def database(migrated_url: str, pooled: bool) -> Iterator[Database]:
    opened = open_database(migrated_url, transaction_pooler=pooled)
    yield opened
    opened.close()


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
