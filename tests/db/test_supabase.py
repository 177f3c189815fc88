"""The roles and default privileges of a Supabase project, made by hand: it gives every new table to everybody."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg2.errors as refused
import pytest

from fourlane.db import migrate
from fourlane.db.engine import open_database
from tests.postgres import Postgres, connect

ROLES = {"anon": "", "authenticated": "", "service_role": "BYPASSRLS"}
ANN, ACME = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


@pytest.fixture(scope="module")
def hosted(postgres_server: Postgres) -> Iterator[Any]:
    with postgres_server.database() as url:
        yield from _hosted(url)


def _hosted(url: str) -> Iterator[Any]:
    connection = connect(url)
    cursor = connection.cursor()
    for role, option in ROLES.items():
        cursor.execute(f"CREATE ROLE {role} NOLOGIN {option}")
        for kind in ("TABLES", "FUNCTIONS", "SEQUENCES"):
            cursor.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON {kind} TO {role}")
    database = open_database(url)
    migrate.migrate(database)
    database.close()
    cursor.execute("INSERT INTO organizations (id, name) VALUES (%s, 'Acme')", [ACME])
    cursor.execute("INSERT INTO organization_members (organization_id, user_id) VALUES (%s, %s)", [ACME, ANN])
    cursor.execute("INSERT INTO outbox_tasks (task) VALUES ('resize')")
    yield cursor
    cursor.execute("RESET ROLE")
    for role in ROLES:
        cursor.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    connection.close()


@pytest.fixture
def project(hosted: Any) -> Iterator[Any]:
    """What a test does in it is rolled back."""
    hosted.execute("BEGIN")
    yield hosted
    hosted.execute("ROLLBACK")


def become(cursor: Any, role: str) -> None:
    cursor.execute(f"SET ROLE {role}")
    cursor.execute("SELECT set_config('request.jwt.claims', %s, false)", [json.dumps({"sub": ANN, "role": role})])


def test_who_is_logged_in_enqueues(project: Any) -> None:
    become(project, "authenticated")
    project.execute("SELECT enqueue_job('resize', organization_id => %s)", [ACME])
    project.execute("SELECT name FROM organizations")
    assert project.fetchall() == [("Acme",)]


def test_trusted_servers_enqueue_anything(project: Any) -> None:
    become(project, "service_role")
    project.execute("SELECT enqueue_job('pay_out', tier => 0)")
    project.execute("SELECT task FROM job_outbox")
    assert project.fetchall() == [("pay_out",)]


@pytest.mark.parametrize(
    ("role", "sql"),
    [
        ("anon", f"SELECT enqueue_job('resize', organization_id => '{ACME}')"),
        ("anon", "SELECT * FROM organizations"),
        ("anon", f"INSERT INTO job_outbox (task, organization_id) VALUES ('resize', '{ACME}')"),
        ("authenticated", "SELECT * FROM job_outbox"),
        ("authenticated", "DELETE FROM job_outbox"),
        ("authenticated", "SELECT key_hash FROM api_keys"),
        ("authenticated", "SELECT secret FROM webhook_endpoints"),
        ("authenticated", "UPDATE organizations SET name = 'mine'"),
        ("authenticated", "UPDATE outbox_tasks SET task = 'pay_out'"),
        ("authenticated", "SELECT * FROM schema_versions"),
        ("authenticated", "SELECT * FROM stored_files"),
        ("anon", "TRUNCATE stored_files"),
        ("authenticated", "SELECT enqueue_job('pay_out', organization_id => '" + ACME + "')"),
        (
            "authenticated",
            "INSERT INTO job_outbox (task, organization_id, options) "
            f"VALUES ('resize', '{ACME}', '{{\"on_success\": \"pay_out\"}}')",
        ),
    ],
)
def test_all_else_is_refused(project: Any, role: str, sql: str) -> None:
    become(project, role)
    with pytest.raises(refused.InsufficientPrivilege):
        project.execute(sql)
