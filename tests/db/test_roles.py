"""Row-level security and privileges, with roles that really log in to a real PostgreSQL."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg2
import psycopg2.errors as refused
import pytest

from fourlane.db import migrate
from fourlane.db.engine import open_database
from fourlane.outbox.relay import Relay
from fourlane.queues import browse
from fourlane.queues.redis import Connector
from fourlane.queues.redis import connect as connect_redis
from fourlane.queues.store import Store
from tests.postgres import Postgres, connect

# Fixed, because they are in the names of tests, which must be the same in each process.
ANN, BOB, ACME, BIRD = (uuid.UUID(int=n) for n in range(1, 5))


class As:
    """SQL as one login role, for one user: each call is a transaction, as PostgREST makes it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = psycopg2.connect(url)

    def __call__(self, sql: str, values: Any = (), *, user: uuid.UUID | None = None) -> list[Any]:
        with self.connection, self.connection.cursor() as cursor:
            if user is not None:
                cursor.execute("SELECT set_config('request.jwt.claims', %s, true)", [json.dumps({"sub": str(user)})])
            cursor.execute(sql, values)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="module")
def organizations_url(postgres_server: Postgres, migrated_template: str) -> Iterator[str]:
    """A migrated database with two organizations: Ann is in Acme, Bob in Bird."""
    with postgres_server.database(migrated_template) as url:
        connection = connect(url)
        _fill(connection.cursor())
        connection.close()
        yield url


def _fill(cursor: Any) -> None:
    for organization, user in ((ACME, ANN), (BIRD, BOB)):
        cursor.execute("INSERT INTO organizations (id, name) VALUES (%s, 'x')", [str(organization)])
        cursor.execute(
            "INSERT INTO organization_members (organization_id, user_id) VALUES (%s, %s)",
            [str(organization), str(user)],
        )
        cursor.execute("INSERT INTO credit_accounts (organization_id) VALUES (%s)", [str(organization)])
    cursor.execute("INSERT INTO outbox_tasks (task, service, tier) VALUES ('resize', 'images', 0)")


@pytest.fixture
def admin(organizations_url: str) -> Iterator[Any]:
    """Its superuser; what a test enqueued is gone afterwards."""
    connection = connect(organizations_url)
    cursor = connection.cursor()
    yield cursor
    cursor.execute("DELETE FROM job_outbox")
    cursor.execute("DELETE FROM audit_logs")
    connection.close()


@pytest.fixture
def login(admin: Any, postgres_server: Postgres, organizations_url: str) -> Iterator[Any]:
    """Logs in as a new role of a group: ``login("fourlane_web")``."""
    made: list[tuple[str, As]] = []

    def log_in(group: str) -> As:
        name = "r" + uuid.uuid4().hex[:8]
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' IN ROLE {group}")
        made.append((name, As(postgres_server.url_of(organizations_url.rpartition("/")[2], user=name))))
        return made[-1][1]

    yield log_in
    for name, user in made:
        user.connection.close()
        admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_every_table_has_row_level_security(admin: Any) -> None:
    admin.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
                  " AND NOT relrowsecurity")  # fmt: skip
    assert admin.fetchall() == []


def test_members_see_their_organization_only(login: Any) -> None:
    web = login("fourlane_web")
    assert web("SELECT organization_id FROM credit_accounts", user=ANN) == [(str(ACME),)]
    assert web("SELECT id FROM organizations", user=BOB) == [(str(BIRD),)]
    assert web("SELECT id FROM organizations") == []  # nobody is logged in
    assert web("SELECT id FROM organizations", user=uuid.uuid4()) == []


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE credit_accounts SET balance = 1000000",
        "INSERT INTO organization_members (organization_id, user_id) VALUES (gen_random_uuid(), gen_random_uuid())",
        "DELETE FROM organizations",
        "SELECT key_hash FROM api_keys",
        "SELECT secret FROM webhook_endpoints",
        "SELECT * FROM job_outbox",
        "UPDATE job_outbox SET tier = 0",
        "DELETE FROM job_outbox",
        "SELECT * FROM reconciliation_findings",
        "SELECT * FROM schema_versions",
        "INSERT INTO outbox_tasks (task) VALUES ('pay_out')",
        "INSERT INTO job_outbox (task, options) VALUES ('resize', '{\"on_success\": \"pay_out\"}')",
        "INSERT INTO job_outbox (task, relayed_at) VALUES ('resize', now())",
    ],
)
def test_members_may_not(login: Any, sql: str) -> None:
    with pytest.raises(refused.InsufficientPrivilege):
        login("fourlane_web")(sql, user=ANN)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_logs SET action = 'nothing'",
        "DELETE FROM security_events",
        "DELETE FROM invoices",
        "UPDATE payment_methods SET brand = 'x'",
        "INSERT INTO organizations (name) VALUES ('x')",
        "INSERT INTO outbox_tasks (task) VALUES ('pay_out')",
        "UPDATE schema_versions SET checksum = ''",
        "DROP TABLE job_outbox",
        "TRUNCATE job_outbox",
    ],
)
def test_the_worker_may_not(login: Any, sql: str) -> None:
    with pytest.raises(refused.InsufficientPrivilege):
        login("fourlane_worker")(sql)


def test_the_worker_does_its_work(login: Any) -> None:
    worker = login("fourlane_worker")
    assert len(worker("SELECT id FROM organizations")) == 2
    worker("INSERT INTO audit_logs (actor, action) VALUES ('worker', 'billing.repair')")
    [(job,)] = worker("SELECT enqueue_job('anything', service => 'billing', tier => 3)")
    assert worker("SELECT task, service, tier FROM job_outbox WHERE id = %s", [job]) == [("anything", "billing", 3)]
    worker("DELETE FROM job_outbox")


def test_the_workers_role_relays(login: Any, admin: Any, redis_url: str, namespace: str) -> None:
    """And may look at the schema, which a worker does at its start."""
    admin.execute("INSERT INTO job_outbox (task, order_key) VALUES ('resize', 'a'), ('resize', NULL)")
    database = open_database(login("fourlane_worker").url)
    store = Store(Connector(connect_redis(redis_url)), namespace=namespace)
    relay = Relay(database, store, keep_seconds=0)
    assert (relay.drain(), relay.failed) == (2, 0)
    relay._purge()
    admin.execute("SELECT count(*) FROM job_outbox")
    assert admin.fetchone() == (0,)
    assert {state.word for state in migrate.status(database)} == {"applied"}
    database.close()
    store.connector.close()


def test_members_enqueue_by_the_function(login: Any, admin: Any) -> None:
    web = login("fourlane_web")
    [(job,)] = web(
        "SELECT enqueue_job('resize', args => '[\"a.png\", 1.0]', organization_id => %s)", [str(ACME)], user=ANN
    )
    admin.execute("SELECT task, service, tier, args, kwargs, options, organization_id, created_by FROM job_outbox")
    assert admin.fetchall() == [("resize", "images", 0, '["a.png", 1.0]', "{}", "{}", str(ACME), str(ANN))]
    assert uuid.UUID(job)


def test_what_the_function_enqueues_runs_for_the_organization(
    login: Any, admin: Any, redis_url: str, namespace: str
) -> None:
    call = "SELECT enqueue_job('resize', organization_id => %s)"
    [(job_id,)] = login("fourlane_web")(call, [str(ACME)], user=ANN)
    database = open_database(login("fourlane_worker").url)
    store = Store(Connector(connect_redis(redis_url)), namespace=namespace)
    assert Relay(database, store).drain() == 1
    assert browse.job(store, job_id).tenant == str(ACME)
    database.close()
    store.connector.close()


def test_the_same_call_again_is_one_job(login: Any, admin: Any) -> None:
    web, job = login("fourlane_web"), str(uuid.uuid4())
    for _ in range(2):
        values = [job, str(ACME)]
        assert web("SELECT enqueue_job('resize', id => %s, organization_id => %s)", values, user=ANN) == [(job,)]
    admin.execute("SELECT count(*) FROM job_outbox")
    assert admin.fetchone() == (1,)
    with pytest.raises(refused.UniqueViolation, match="another job has the id"):
        web("SELECT enqueue_job('resize', id => %s, organization_id => %s)", [job, str(BIRD)], user=BOB)


def test_members_insert_rows_themselves(login: Any, admin: Any) -> None:
    web = login("fourlane_web")
    web("INSERT INTO job_outbox (task, service, tier, organization_id) VALUES ('resize', 'images', 0, %s)",
        [str(ACME)], user=ANN)  # fmt: skip
    admin.execute("SELECT created_by FROM job_outbox")
    assert admin.fetchall() == [(str(ANN),)]


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        ("enqueue_job('resize')", "no member of the organization"),
        (f"enqueue_job('resize', organization_id => '{BIRD}')", "no member of the organization"),
        (f"enqueue_job('pay_out', organization_id => '{ACME}')", "may not enqueue the task pay_out"),
        (f"enqueue_job('resize', service => 'billing', organization_id => '{ACME}')", "only for service images"),
        (f"enqueue_job('resize', tier => 1, organization_id => '{ACME}')", "and tier 0"),
    ],
)
def test_enqueue_job_refuses(login: Any, admin: Any, call: str, fault: str) -> None:
    with pytest.raises(refused.InsufficientPrivilege, match=fault):
        login("fourlane_web")(f"SELECT {call}", user=ANN)
    admin.execute("SELECT count(*) FROM job_outbox")
    assert admin.fetchone() == (0,)


def test_nobody_else_may_call_it(admin: Any, login: Any) -> None:
    admin.execute("CREATE ROLE stranger_group")
    try:
        with pytest.raises(refused.InsufficientPrivilege):
            login("stranger_group")("SELECT enqueue_job('resize')")
    finally:
        admin.execute("DROP ROLE stranger_group")


@pytest.mark.parametrize(
    "columns",
    [
        "(task, service, tier, organization_id) VALUES ('resize', 'images', 0, '{BIRD}')",
        "(task, service, tier, organization_id) VALUES ('resize', 'images', 1, '{ACME}')",
        "(task, service, tier, organization_id) VALUES ('pay_out', 'images', 0, '{ACME}')",
        "(task, service, tier) VALUES ('resize', 'images', 0)",
    ],
)
def test_rows_of_others_are_refused(login: Any, columns: str) -> None:
    with pytest.raises(refused.InsufficientPrivilege, match="row-level security"):
        login("fourlane_web")(f"INSERT INTO job_outbox {columns.format(BIRD=BIRD, ACME=ACME)}", user=ANN)


@pytest.mark.parametrize(
    "values",
    [
        "('t', '{}', '{}')",  # arguments are a list
        "('t', '[]', '[]')",
        "('', '[]', '{}')",
        "('t', '[' || repeat('1,', 600000) || '1]', '{}')",  # over the limit of a job's body
    ],
)
def test_what_is_no_job_is_refused(admin: Any, values: str) -> None:
    with pytest.raises(refused.CheckViolation):
        admin.execute(f"INSERT INTO job_outbox (task, args, kwargs) VALUES {values}")
    with pytest.raises(refused.InvalidTextRepresentation):
        admin.execute("INSERT INTO job_outbox (task, args) VALUES ('t', 'no json')")


def test_a_search_path_of_the_callers_does_not_matter(login: Any, admin: Any) -> None:
    """A temporary table of the same name would let a member be of every organization."""
    web = login("fourlane_web")
    with web.connection, web.connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE organization_members (organization_id uuid, user_id uuid)")
        cursor.execute("INSERT INTO organization_members VALUES (%s, %s)", [str(BIRD), str(ANN)])
        cursor.execute("SET search_path = pg_temp, public")
    with pytest.raises(refused.InsufficientPrivilege, match="no member"):
        web("SELECT public.enqueue_job('resize', organization_id => %s)", [str(BIRD)], user=ANN)
