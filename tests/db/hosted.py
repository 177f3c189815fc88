"""A project as Supabase lays it out: its roles, and default rights that give every new thing to everybody.

Its owner is no superuser. There it is called ``postgres``, which is the superuser's name in these tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fourlane.db import migrate
from fourlane.db.engine import open_database
from tests.postgres import Postgres, connect

__all__ = ["OWNER", "Project", "project"]

OWNER = "project_owner"
_ROLES = {
    OWNER: "LOGIN CREATEROLE CREATEDB BYPASSRLS PASSWORD 'x'",
    "anon": "NOLOGIN",
    "authenticated": "NOLOGIN",
    "service_role": "NOLOGIN BYPASSRLS",
    "authenticator": "LOGIN NOINHERIT PASSWORD 'x'",
}
_OURS = ("fourlane_worker", "fourlane_web")
_EVERYBODY = f"{OWNER}, anon, authenticated, service_role"


@dataclass(frozen=True)
class Project:
    """Its database.

    Parameters:
      admin: a cursor of the superuser.
      url: how its owner connects.
    """

    admin: Any
    url: str

    def migrate(self) -> None:
        """As its owner."""
        database = open_database(self.url)
        migrate.migrate(database)
        database.close()

    def faults(self) -> list[str]:
        """What ``db check`` says to its owner."""
        database = open_database(self.url)
        try:
            return migrate.check(database)
        finally:
            database.close()

    def become(self, role: str, user: str | None) -> None:
        """What PostgREST does for a request."""
        claims = json.dumps({"role": role} | ({"sub": user} if user else {}))
        self.admin.execute(f"SET ROLE {role}")
        self.admin.execute("SELECT set_config('request.jwt.claims', %s, false)", [claims])

    @contextmanager
    def rolled_back(self) -> Iterator[Any]:
        """What happens in it is undone."""
        self.admin.execute("BEGIN")
        try:
            yield self.admin
        finally:
            self.admin.execute("ROLLBACK")


@contextmanager
def project(server: Postgres, *, authenticated: str = "INHERIT") -> Iterator[Project]:
    """A new one, without our tables.

    Parameters:
      authenticated: NOINHERIT in those that were made before 2023-05-29.
    """
    admin = connect(server.url)
    try:
        with server.database() as url:
            connection = connect(url)
            _lay_out(connection.cursor(), authenticated)
            yield Project(connection.cursor(), server.url_of(url.rpartition("/")[2], user=OWNER))
            connection.close()
    finally:
        cursor = admin.cursor()
        for role in _there(cursor, tuple(_ROLES)):
            cursor.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
        admin.close()


def _lay_out(cursor: Any, authenticated: str) -> None:
    cursor.execute("SELECT current_database()")
    [database] = cursor.fetchone()
    for role, options in _ROLES.items():
        cursor.execute(f"CREATE ROLE {role} {options}")
    cursor.execute(f"ALTER ROLE authenticated {authenticated}")
    cursor.execute(f"ALTER DATABASE {database} OWNER TO {OWNER}")
    cursor.execute(f"GRANT anon, authenticated, service_role TO {OWNER} WITH ADMIN OPTION")
    cursor.execute("GRANT anon, authenticated, service_role TO authenticator")
    for role in _there(cursor, _OURS):  # other tests' databases on this server have made them
        cursor.execute(f"GRANT {role} TO {OWNER} WITH ADMIN OPTION")
    cursor.execute(f"GRANT USAGE ON SCHEMA public TO {_EVERYBODY}")
    for kind in ("TABLES", "FUNCTIONS", "SEQUENCES"):
        defaults = f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public"
        cursor.execute(f"{defaults} GRANT ALL ON {kind} TO {_EVERYBODY}")


def _there(cursor: Any, roles: tuple[str, ...]) -> list[str]:
    cursor.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", [list(roles)])
    return [row[0] for row in cursor.fetchall()]
