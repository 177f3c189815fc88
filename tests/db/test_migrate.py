"""Migrations: applied once, by any number of migrators, never a changed one, and undone."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import inspect, make_url, text

from fourlane.db import migrate
from fourlane.db.engine import Database, open_database
from fourlane.db.migrate import Migration, parse
from fourlane.errors import MigrationError
from tests.db.schema import dump

LEFT_ON_PURPOSE = (
    "closed ",  # a table without policies is shut
    "right on public: USAGE to fourlane_",
    "not valid job_outbox_is_a_job",  # rows that were marked as failed since
)


def one(sql: str = "CREATE TABLE a (n INTEGER);", down: str = "DROP TABLE a;", number: int = 1) -> Migration:
    source = f"-- A test.\n-- up\n{sql}\n-- down\n{down}\n"
    return parse(f"20261125_{number:03}_test.sql", source, "postgresql")


def tables(database: Database) -> set[str]:
    return set(inspect(database.engine).get_table_names())


def words(database: Database, migrations: list[Migration] | None = None) -> list[str]:
    return [state.word for state in migrate.status(database, migrations)]


def test_up_and_down_and_up_again(empty: Database) -> None:
    assert set(words(empty)) == {"pending"}
    applied = migrate.migrate(empty)
    assert [m.version for m in applied] == sorted(m.version for m in applied)
    assert set(words(empty)) == {"applied"}
    assert migrate.migrate(empty) == []
    assert len(migrate.rollback(empty, 100)) == len(applied)
    assert tables(empty) == {"schema_versions"}
    assert len(migrate.migrate(empty)) == len(applied)
    assert migrate.check(empty) == []


def test_by_way_of_a_transaction_pooler(postgres_url: str, pgbouncer_port: int) -> None:
    pooled = make_url(postgres_url).set(port=pgbouncer_port).render_as_string(hide_password=False)
    database = open_database(pooled, transaction_pooler=True)
    assert migrate.migrate(database)
    assert set(words(database)) == {"applied"}
    database.close()


def test_it_records_what_the_platform_asks_for(empty: Database) -> None:
    [first] = migrate.migrate(empty, [one()])
    with empty.engine.begin() as connection:
        [row] = connection.execute(text("SELECT * FROM schema_versions")).mappings()
    assert dict(row) | {"applied_at": None} == {
        "version": 261125001,
        "description": "test",
        "applied_at": None,
        "applied_by": row["applied_by"],
        "checksum": first.checksum,
        "rollback_sql": "DROP TABLE a;",
    }
    assert row["applied_at"]
    assert "@" in row["applied_by"]


def test_files_can_be_applied_over_what_they_made(database: Database) -> None:
    """Idempotent: as when the record was lost, and not the tables."""
    with database.engine.begin() as connection:
        connection.execute(text("DELETE FROM schema_versions"))
    assert len(migrate.migrate(database)) == len(migrate.load(database.dialect))
    assert migrate.check(database) == []


def test_a_changed_file_is_refused(empty: Database) -> None:
    migrate.migrate(empty, [one()])
    changed = [one("CREATE TABLE a (n INTEGER, m INTEGER);"), one("CREATE TABLE b (n INTEGER);", number=2)]
    with pytest.raises(MigrationError, match=r"20261125_001_test.sql: its file was changed after it was applied"):
        migrate.migrate(empty, changed)
    assert "b" not in tables(empty)
    assert words(empty, changed) == ["changed", "pending"]
    assert any("was changed" in fault for fault in migrate.check(empty, changed))


def test_line_ends_change_nothing() -> None:
    unix, dos = ("-- up\nSELECT 1;\n-- down\n", "-- up\r\nSELECT 1;\r\n-- down\r\n")
    name = "20261125_001_x.sql"
    assert parse(name, unix, "sqlite") == parse(name, dos, "sqlite")


def test_one_that_fails_leaves_nothing_behind(empty: Database) -> None:
    """And those before it stay applied."""
    files = [one(), one("CREATE TABLE b (n INTEGER);\nCREATE TABLE a (n INTEGER);", number=2)]
    with pytest.raises(MigrationError, match=r"20261125_002_test.sql was not applied: .*already exists"):
        migrate.migrate(empty, files)
    assert tables(empty) == {"schema_versions", "a"}
    assert words(empty, files) == ["applied", "pending"]


def test_a_rollback_that_fails_changes_nothing(empty: Database) -> None:
    files = [one(down="DROP TABLE a;\nDROP TABLE missing;")]
    migrate.migrate(empty, files)
    with pytest.raises(MigrationError, match="was not rolled back"):
        migrate.rollback(empty, 1, files)
    assert "a" in tables(empty)
    assert words(empty, files) == ["applied"]


def test_the_recorded_sql_rolls_back(empty: Database) -> None:
    """Not the file's: it may be another by now."""
    migrate.migrate(empty, [one()])
    migrate.rollback(empty, 1, [one(down="SELECT broken")])
    assert "a" not in tables(empty)


def test_migrations_of_others_are_left_alone(empty: Database) -> None:
    migrate.migrate(empty, [one()])
    with empty.engine.begin() as connection:
        connection.execute(text("INSERT INTO schema_versions (version, description) VALUES (999999999, 'theirs')"))
    assert words(empty, [one()]) == ["applied", "foreign"]
    migrate.rollback(empty, 5, [one()])
    assert words(empty, [one()]) == ["pending", "foreign"]


def test_many_migrators_at_once(empty: Database) -> None:
    start, done, faults = threading.Barrier(4), [], []

    def work() -> None:
        start.wait()
        try:
            done.append(len(migrate.migrate(empty)))
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert sum(done) == len(migrate.load(empty.dialect))
    assert migrate.check(empty) == []


def test_check_finds_what_is_missing(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("DROP TABLE api_keys"))
        connection.execute(text("ALTER TABLE organizations RENAME COLUMN slug TO other"))
    faults = migrate.check(database)
    assert any("api_keys is missing" in fault for fault in faults)
    assert any("organizations lacks slug" in fault for fault in faults)


def test_a_platform_table_that_exists_is_kept(empty: Database) -> None:
    if empty.dialect == "sqlite":
        pytest.skip("the platform is on PostgreSQL")
    with empty.engine.begin() as connection:
        connection.execute(text("CREATE TABLE organizations (id UUID PRIMARY KEY, name TEXT, theirs TEXT)"))
        connection.execute(text("INSERT INTO organizations VALUES (gen_random_uuid(), 'Acme', 'x')"))
    migrate.migrate(empty)
    assert any("organizations lacks" in fault for fault in migrate.check(empty))
    with empty.engine.begin() as connection:
        policies = connection.execute(text("SELECT policyname FROM pg_policies WHERE tablename = 'organizations'"))
        assert policies.scalars().all() == ["fourlane_worker"]
    migrate.rollback(empty, 100)
    with empty.engine.begin() as connection:
        assert connection.execute(text("SELECT name, theirs FROM organizations")).all() == [("Acme", "x")]


def test_a_rollback_destroys_no_rows_of_the_platform(database: Database) -> None:
    if database.dialect == "sqlite":
        pytest.skip("the platform is on PostgreSQL")
    with database.engine.begin() as connection:
        connection.execute(text("INSERT INTO organizations (name) VALUES ('Acme')"))
        connection.execute(text("INSERT INTO job_outbox (task) VALUES ('resize')"))
    with pytest.raises(MigrationError, match="jobs that were not relayed"):
        migrate.rollback(database, 100)
    with database.engine.begin() as connection:
        connection.execute(text("DELETE FROM job_outbox"))
    with pytest.raises(MigrationError, match="the table organizations has rows"):
        migrate.rollback(database, 100)
    assert "organizations" in tables(database)


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        ("1_x.sql", "-- up\n-- down\n", "is named"),
        ("20261125_001_Big.sql", "-- up\n-- down\n", "is named"),
        ("20261125_001_x.sql", "-- up\nSELECT 1;\n", "needs a section"),
        ("20261125_001_x.sql", "-- down\n", "needs a section"),
    ],
)
def test_what_is_no_migration(name: str, source: str, fault: str) -> None:
    with pytest.raises(MigrationError, match=fault):
        parse(name, source, "sqlite")


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("postgresql", "CREATE TABLE a (id UUID);\n\nSELECT 'p';"),
        ("sqlite", "CREATE TABLE a (id CHAR(32));\n\nSELECT 's';"),
    ],
)
def test_sections(dialect: str, expected: str) -> None:
    source = "-- up\nCREATE TABLE a (id UUID);\n-- up postgresql\nSELECT 'p';\n-- up sqlite\nSELECT 's';\n-- down\nx\n"
    assert parse("20261125_001_x.sql", source, dialect).up == expected


def test_versions_of_the_files_are_unique_and_fit() -> None:
    versions: list[Any] = [m.version for m in migrate.load("postgresql")]
    assert len(versions) == len(set(versions))
    assert max(versions) < 2**31


def test_every_way_back_is_the_way_there(empty: Database) -> None:
    """Up, down and up again leave what one way up does, and down what was before, for each file."""
    files = migrate.load(empty.dialect)
    migrate.migrate(empty, files[:0])
    before = dump(empty)
    for number, file in enumerate(files, 1):
        migrate.migrate(empty, files[:number])
        after = dump(empty)
        migrate.rollback(empty, 1, files)
        left = [line for line in dump(empty) if line not in before]
        assert all(line.startswith(LEFT_ON_PURPOSE) for line in left), f"{file.file}, down"
        assert set(before) <= set(dump(empty)), f"{file.file}, down"
        migrate.migrate(empty, files[:number])
        assert dump(empty) == after, f"{file.file}, up again"
        before = after
