"""Projects as Supabase lays them out, each as it was before our migrations."""

from __future__ import annotations

from typing import Any

from fourlane.db import migrate
from fourlane.db.engine import open_database
from tests.db.hosted import OWNER, Project
from tests.db.hosted import project as new_project
from tests.postgres import Postgres


def test_a_table_of_a_later_migration_is_closed_by_it(postgres_server: Postgres) -> None:
    """Nobody has to think of it: the sequence of its key too."""
    with new_project(postgres_server) as made:
        before = [m for m in migrate.load("postgresql") if m.version < 261128000]
        database = open_database(made.url)
        migrate.migrate(database, before)
        database.close()
        assert rights(made) == []
        made.migrate()
        assert rights(made) == []


def rights(made: Project) -> list[Any]:
    """What strangers hold, by the server's own words."""
    made.admin.execute(
        "SELECT c.relname, r.rolname, privilege FROM pg_class AS c, pg_roles AS r, unnest(ARRAY['SELECT', 'INSERT', "
        "'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS privilege "
        "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND r.rolname IN ('anon', 'authenticated') "
        "AND EXISTS (SELECT 1 FROM aclexplode(c.relacl) AS a WHERE a.grantee = r.oid AND a.privilege_type = privilege)"
    )
    return list(made.admin.fetchall())


def test_tables_that_the_platform_made_are_left_as_it_gave_them(postgres_server: Postgres) -> None:
    with new_project(postgres_server) as made:
        made.admin.execute(f"SET ROLE {OWNER}")
        made.admin.execute("CREATE TABLE organizations (id UUID PRIMARY KEY, name TEXT)")
        made.migrate()
        assert {row[0] for row in rights(made)} == {"organizations"}
        assert not any("may" in line for line in made.faults())


def test_a_role_that_does_not_inherit_is_noticed(postgres_server: Postgres) -> None:
    """Rights of fourlane_web reach nobody then: each read and insert is refused."""
    with new_project(postgres_server, authenticated="NOINHERIT") as made:
        made.migrate()
        [fault] = made.faults()
        assert "the role authenticated does not inherit the rights of fourlane_web" in fault
        made.admin.execute(fault.partition("; run ")[2])
        assert made.faults() == []
