"""Every table, tried by everybody: who reads and changes what, in a project as Supabase lays it out.

The tables are the catalog's: one of a later migration is tried too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import psycopg2.errors
import pytest

from fourlane.db.engine import open_database
from tests.db.hosted import Project, project
from tests.db.planted import ACME, ANN, BIRD, BOB, plant
from tests.postgres import Postgres

WHO: Final = {
    "ann": ("authenticated", ANN, ACME),
    "bob": ("authenticated", BOB, BIRD),
    "nobody": ("authenticated", None, None),
    "anon": ("anon", None, None),
}
CHANGES: Final = {
    "insert": "INSERT INTO {table} SELECT * FROM {table} WHERE false",
    "update": "UPDATE {table} SET {key} = NULL WHERE false",
    "delete": "DELETE FROM {table} WHERE false",
    "truncate": "TRUNCATE {table} CASCADE",
    "lock": "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
}
INSERTED: Final = {"job_outbox"}
"""Where members insert some columns: tests/db/test_roles.py says under what rules."""


@pytest.fixture(scope="module")
def hosted(postgres_server: Postgres) -> Iterator[Project]:
    with project(postgres_server) as made:
        made.migrate()
        made.admin.execute("SELECT current_database()")
        [name] = made.admin.fetchone()
        database = open_database(postgres_server.url_of(name))
        with database.engine.begin() as connection:
            plant(connection)
        database.close()
        yield made


@pytest.fixture
def tried(hosted: Project) -> Iterator[Any]:
    with hosted.rolled_back() as cursor:
        yield cursor


def tables(cursor: Any) -> list[tuple[str, list[str]]]:
    """Each with its columns, the key first."""
    cursor.execute(
        "SELECT c.relname, array_agg(a.attname::text ORDER BY a.attnum = ANY (i.indkey) DESC, a.attnum) "
        "FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        "JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary "
        "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') GROUP BY c.relname ORDER BY 1"
    )
    return list(cursor.fetchall())


def attempt(cursor: Any, sql: str) -> list[Any] | None:
    """The rows; None when it was refused."""
    cursor.execute("SAVEPOINT attempt")
    try:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []
    except psycopg2.errors.InsufficientPrivilege:
        return None
    finally:
        cursor.execute("ROLLBACK TO attempt")


def test_every_table_has_rows_of_both(tried: Any) -> None:
    for table, _ in tables(tried):
        tried.execute(f"SELECT count(*) FROM {table}")
        assert tried.fetchone()[0] >= 2, table


@pytest.mark.parametrize("who", WHO)
def test_what_is_read_is_ones_own(hosted: Project, tried: Any, who: str) -> None:
    role, user, organization = WHO[who]
    there = tables(tried)
    hosted.become(role, user and str(user))
    own = {str(user), str(organization)}
    seen = set()
    for table, columns in there:
        whose = [name for name in columns if name in ("organization_id", "user_id")] or columns[:1]
        rows = attempt(tried, f"SELECT {', '.join(whose)} FROM {table}")
        for row in rows or ():
            seen.add(table)
            assert own & {str(value) for value in row}, f"{who} reads {row} of {table}"
    assert bool(seen) == (user is not None)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_changed(hosted: Project, tried: Any, who: str, change: str) -> None:
    role, user, _ = WHO[who]
    there = tables(tried)
    hosted.become(role, user and str(user))
    allowed = [
        table
        for table, columns in there
        if attempt(tried, CHANGES[change].format(table=table, key=columns[0])) is not None
    ]
    assert allowed == []


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_no_column_and_no_sequence_either(tried: Any, role: str) -> None:
    tried.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S') AND "
        "CASE relkind WHEN 'S' THEN has_sequence_privilege(%(role)s, oid, 'USAGE, SELECT, UPDATE') "
        "ELSE has_any_column_privilege(%(role)s, oid, 'INSERT, UPDATE, REFERENCES') END",
        {"role": role},
    )
    assert {row[0] for row in tried.fetchall()} == (INSERTED if role == "authenticated" else set())
