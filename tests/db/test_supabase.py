"""A project of Supabase's, which gives every new table to everybody: what is left of it after our migrations."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg2.errors as refused
import pytest

from tests.db.hosted import OWNER, Project
from tests.db.hosted import project as new_project
from tests.postgres import Postgres

ANN, ACME = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


@pytest.fixture(scope="module")
def hosted(postgres_server: Postgres) -> Iterator[Project]:
    with new_project(postgres_server) as made:
        made.migrate()
        made.admin.execute("INSERT INTO organizations (id, name) VALUES (%s, 'Acme')", [ACME])
        made.admin.execute("INSERT INTO organization_members (organization_id, user_id) VALUES (%s, %s)", [ACME, ANN])
        made.admin.execute("INSERT INTO outbox_tasks (task) VALUES ('resize')")
        yield made


@pytest.fixture
def project(hosted: Project) -> Iterator[Any]:
    """What a test does in it is rolled back."""
    with hosted.rolled_back() as cursor:
        yield cursor


def test_who_is_logged_in_enqueues(hosted: Project, project: Any) -> None:
    hosted.become("authenticated", ANN)
    project.execute("SELECT enqueue_job('resize', organization_id => %s)", [ACME])
    project.execute("SELECT name FROM organizations")
    assert project.fetchall() == [("Acme",)]


def test_trusted_servers_enqueue_anything(hosted: Project, project: Any) -> None:
    hosted.become("service_role", ANN)
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
def test_all_else_is_refused(hosted: Project, project: Any, role: str, sql: str) -> None:
    hosted.become(role, ANN)
    with pytest.raises(refused.InsufficientPrivilege):
        project.execute(sql)


def test_nothing_is_left_to_report(hosted: Project) -> None:
    assert hosted.faults() == []


_GIVEN = [
    ("GRANT ALL ON job_outbox TO anon", "anon may DELETE, INSERT, .*TRUNCATE, .* on the table job_outbox"),
    (
        "GRANT SELECT (secret) ON webhook_endpoints TO authenticated",
        "authenticated may SELECT on the table webhook_end",
    ),
    ("GRANT USAGE ON SEQUENCE job_outbox_position_seq TO anon", "anon may USAGE on the sequence job_outbox_position"),
    ("GRANT TRUNCATE ON job_outbox TO fourlane_worker", "fourlane_worker may TRUNCATE on the table job_outbox"),
    ("GRANT SELECT ON api_keys TO PUBLIC", "PUBLIC may SELECT on the table api_keys"),
    (
        "CREATE FUNCTION fourlane_new() RETURNS INT SECURITY DEFINER LANGUAGE sql AS 'SELECT 1'",
        "anon may EXECUTE on the function fourlane_new",
    ),
]


@pytest.mark.parametrize(("grant", "fault"), _GIVEN)
def test_what_was_given_since_is_told_and_taken_away(hosted: Project, grant: str, fault: str) -> None:
    hosted.admin.execute(f"SET ROLE {OWNER}")
    hosted.admin.execute(grant)
    assert any(re.search(fault, line) for line in hosted.faults())
    hosted.migrate()
    assert hosted.faults() == []
