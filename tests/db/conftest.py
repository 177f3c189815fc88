from __future__ import annotations

from collections.abc import Iterator

import pytest

from fourlane import crypto
from fourlane.db import migrate
from fourlane.db.engine import Database, open_database


@pytest.fixture
def empty(database_url: str) -> Iterator[Database]:
    """A database without tables; SQLite, then PostgreSQL."""
    opened = open_database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def database(empty: Database) -> Database:
    """A migrated one."""
    migrate.migrate(empty)
    return empty


@pytest.fixture
def keys() -> Iterator[crypto.Keyring]:
    ring = crypto.Keyring([crypto.new_key()])
    crypto.configure(ring)
    yield ring
    crypto.configure(None)
