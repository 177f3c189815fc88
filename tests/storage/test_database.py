"""Files in the table, and who may read it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fourlane.db.engine import open_database
from fourlane.errors import StorageUnavailable
from fourlane.storage.database import DatabaseStorage
from fourlane.storage.names import reference
from tests.postgres import Postgres, connect
from tests.servers import free_port

NAME = "ai/acme/j/x.txt"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite:///{folder}/new.db", "no such table: stored_files .*run `fourlane db migrate`"),
        ("sqlite:////proc/none/x.db", "look at the file that DATABASE_URL or FOURLANE_DATA_DIR names"),
        ("postgresql://u:hush@127.0.0.1:{port}/x", "is the server running, and DATABASE_URL right?"),
    ],
)
def test_a_database_that_takes_nothing(tmp_path: Path, url: str, why: str) -> None:
    database = open_database(url.format(folder=tmp_path, port=free_port()))
    kept = DatabaseStorage(database)
    for call in (lambda: kept.put(NAME, b"x", "text/plain"), lambda: kept.get(reference(NAME))):
        with pytest.raises(StorageUnavailable, match=why) as caught:
            call()
        assert "hush" not in str(caught.value)
    database.close()


def test_where_there_is_no_table_nothing_is_old(database_url: str) -> None:
    database = open_database(database_url)
    assert DatabaseStorage(database).prune(datetime.now(UTC)) == 0
    database.close()


@pytest.fixture
def roles(postgres_server: Postgres, migrated_postgres_url: str) -> Any:
    """Logs in as a new role of a group."""
    admin = connect(migrated_postgres_url)
    made: list[str] = []

    def log_in(group: str) -> str:
        name = "r" + uuid.uuid4().hex[:8]
        admin.cursor().execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' IN ROLE {group}")
        made.append(name)
        return postgres_server.url_of(migrated_postgres_url.rpartition("/")[2], user=name)

    yield log_in
    for name in made:
        admin.cursor().execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    admin.close()


def test_the_workers_role_does_all_of_it(roles: Any) -> None:
    database = open_database(roles("fourlane_worker"))
    kept = DatabaseStorage(database)
    ref = kept.put(NAME, b"one", "text/plain")
    kept.put(NAME, b"two", "text/plain")
    assert kept.get(ref).data == b"two"
    assert kept.prune(datetime(2999, 1, 1, tzinfo=UTC)) == 1
    kept.delete(ref)
    database.close()


def test_members_of_organizations_see_none(roles: Any) -> None:
    database = open_database(roles("fourlane_web"))
    with pytest.raises(StorageUnavailable, match=r"permission denied.*this user may not do that"):
        DatabaseStorage(database).get(reference(NAME))
    database.close()
