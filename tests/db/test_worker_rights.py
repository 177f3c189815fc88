"""The worker's role has what the code uses, and no more."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg2.errors as refused
import pytest

from examples.billing.standins import Stripe
from fourlane import crypto
from fourlane.db import ai_rows, migrate
from fourlane.db.engine import Database, open_database
from fourlane.db.models import AuditLog, Organization, ReconciliationFinding
from fourlane.db.rights import PLATFORM
from fourlane.db.security import record_refusal
from fourlane.providers.stripe import StripeBooks
from fourlane.storage.database import DatabaseStorage
from fourlane.tasks.billing import findings, repairs
from fourlane.tasks.billing.reconciliation import reconcile_period
from tests.db.used import used
from tests.postgres import Postgres, connect
from tests.tasks.billing.conftest import JANUARY, at

NEVER = ("TRUNCATE", "REFERENCES", "TRIGGER")


@pytest.fixture
def admin(migrated_postgres_url: str) -> Iterator[Any]:
    connection = connect(migrated_postgres_url)
    yield connection.cursor()
    connection.close()


@pytest.fixture
def worker(admin: Any, postgres_server: Postgres, migrated_postgres_url: str) -> Iterator[Database]:
    """The database as a worker sees it."""
    name = "w" + uuid.uuid4().hex[:8]
    admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' IN ROLE fourlane_worker")
    database = open_database(postgres_server.url_of(migrated_postgres_url.rpartition("/")[2], user=name))
    yield database
    database.close()
    admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def granted(admin: Any) -> dict[str, set[str]]:
    """By table; a verb that goes for some columns is one."""
    admin.execute(
        "SELECT relname, verb FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', "
        "'REFERENCES', 'TRIGGER']) AS verb WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND "
        "CASE WHEN verb IN ('DELETE', 'TRUNCATE', 'TRIGGER') THEN has_table_privilege('fourlane_worker', oid, verb) "
        "ELSE has_any_column_privilege('fourlane_worker', oid, verb) END"
    )
    found: dict[str, set[str]] = {}
    for table, verb in admin.fetchall():
        found.setdefault(table, set()).add(verb)
    return found


def test_what_it_has_is_what_the_code_uses(admin: Any) -> None:
    """A new table stands here by itself: its migration grants what its code does."""
    has, (surely, perhaps) = granted(admin), used()
    assert {table: verbs for table in surely if (verbs := surely[table] - has.get(table, set()))} == {}
    assert {table: verbs for table in has if (verbs := has[table] - perhaps.get(table, set()))} == {}


@pytest.mark.parametrize("table", [*PLATFORM, "api_keys", "outbox_tasks", "schema_versions"])
def test_it_never_has_what_row_level_security_does_not_stand_before(admin: Any, table: str) -> None:
    assert granted(admin).get(table, set()).isdisjoint(NEVER)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM api_keys",
        "INSERT INTO api_keys (name, prefix, key_hash) VALUES ('mine', 'x', 'x')",
        "UPDATE api_keys SET scopes = '[\"*\"]'",
        "SELECT holder_name FROM payment_methods",
        "UPDATE credit_accounts SET balance = 1000000",
        "INSERT INTO credit_transactions DEFAULT VALUES",
        "SELECT details FROM audit_logs",
        "SELECT ip_address FROM security_events",
        "SELECT * FROM organization_members",
    ],
)
def test_a_worker_that_was_taken_over_may_not(worker: Database, sql: str) -> None:
    with worker.engine.connect() as connection, pytest.raises(Exception, match="permission denied") as caught:
        connection.exec_driver_sql(sql)
    assert isinstance(caught.value.__cause__, refused.InsufficientPrivilege)


def test_it_reconciles_and_repairs(worker: Database, migrated_postgres_url: str) -> None:
    owner = open_database(migrated_postgres_url)
    with owner.begin() as session:
        session.add(Organization(name="Acme", stripe_customer_id="cus_1"))
    with Stripe() as stripe:
        stripe.invoice("in_1", 4900, at(4))
        books = StripeBooks(stripe.key, base_url=stripe.url)
        summary = reconcile_period(worker, books, JANUARY)
        books.close()
    [finding] = findings.findings(worker, summary.run_id)
    assert repairs.repair(worker, finding, actor="worker", now=at(20))
    with owner.begin() as session:
        assert session.query(AuditLog).one().actor == "worker"
        assert session.query(ReconciliationFinding).one().repaired_at == at(20)
    owner.close()


def test_it_writes_rows_of_ai_calls_refusals_and_files(worker: Database, keys: crypto.Keyring) -> None:
    columns = {"id": uuid.uuid4(), "operation": "generate", "provider": "p", "model": "m", "status": "ok"}
    ai_rows.write(worker, columns)
    ai_rows.write(worker, columns)  # once for each id
    assert ai_rows.spent(worker, datetime.now(UTC).strftime("%Y-%m")) == {None: 0}
    record_refusal(worker, provider="stripe", reason="signature", detail="", address="192.0.2.1", unreported=0)
    storage = DatabaseStorage(worker)
    for _ in range(2):
        storage._write("a", b"x", "text/plain")
    storage._remove("a")
    assert {state.word for state in migrate.status(worker)} == {"applied"}
