"""What members of an organization may put into the outbox, with roles that really log in to a real PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import psycopg2.errors as refused
import pytest

from fourlane.db.engine import Database, open_database
from fourlane.outbox.relay import Relay
from fourlane.queues import browse
from fourlane.queues.store import Store
from tests.db.test_roles import ACME, ANN, BIRD, BOB
from tests.db.test_roles import admin as admin
from tests.db.test_roles import login as login
from tests.db.test_roles import organizations_url as organizations_url

ENQUEUE = "SELECT enqueue_job('resize', organization_id => %s, run_at => %s, order_key => %s)"
INSERT = (
    "INSERT INTO job_outbox (task, service, tier, organization_id, run_at, order_key)"
    " VALUES ('resize', 'images', 0, %s, %s, %s)"
)
WIDE = f'["{"x" * 1_000}"]'
WAYS = pytest.mark.parametrize("sql", [ENQUEUE, INSERT], ids=["enqueue_job", "insert"])


@pytest.fixture
def database(organizations_url: str) -> Iterator[Database]:
    opened = open_database(organizations_url)
    yield opened
    opened.close()


@pytest.fixture
def bounded(admin: Any) -> Any:
    """``bounded(ACME, waiting_rows=5)``: what an operator does."""

    def bound(organization: uuid.UUID, **quota: int) -> None:
        admin.execute("DELETE FROM outbox_quotas WHERE organization_id = %s", [str(organization)])
        columns = ", ".join(["organization_id", *quota])
        marks = ", ".join(["%s"] * (len(quota) + 1))
        admin.execute(f"INSERT INTO outbox_quotas ({columns}) VALUES ({marks})", [str(organization), *quota.values()])

    yield bound
    admin.execute("DELETE FROM outbox_quotas WHERE organization_id <> %s", [str(uuid.UUID(int=0))])
    admin.execute("DELETE FROM outbox_usage")


def wide_of(sql: str) -> str:
    """The way, with arguments."""
    wide = sql.replace("order_key => %s", "order_key => %s, args => %s").replace("order_key)", "order_key, args)")
    return wide.replace("0, %s, %s, %s)", "0, %s, %s, %s, %s)")


def counted(admin: Any) -> int:
    admin.execute("SELECT count(*) FROM job_outbox")
    return int(admin.fetchone()[0])


@WAYS
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/New_York", "Asia/Kathmandu"])
def test_moments_that_no_calendar_has_are_refused(login: Any, admin: Any, sql: str, zone: str) -> None:
    web = login("fourlane_web")
    web(f"SET timezone = '{zone}'")
    for run_at in ("0044-03-15 BC", "200000-01-01", "9999-12-31 23:59:59+00", "0001-01-01 00:00:00+00", "infinity",
                   "-infinity", "1969-12-31 00:00:00+00"):  # fmt: skip
        with pytest.raises(refused.CheckViolation, match="moments_are_from_1970_to_9999"):
            web(sql, [str(ACME), run_at, None], user=ANN)
    with pytest.raises(refused.DatetimeFieldOverflow, match="run_at is more than 366 days ahead"):
        web(sql, [str(ACME), "2199-01-01", None], user=ANN)
    with pytest.raises(refused.CheckViolation, match="names_have_1000_bytes"):
        web(sql, [str(ACME), None, "k" * 1_001], user=ANN)
    assert counted(admin) == 0


@WAYS
def test_rows_that_wait(login: Any, bounded: Any, database: Database, store: Store, sql: str) -> None:
    bounded(ACME, waiting_rows=3)
    web = login("fourlane_web")
    for _ in range(3):
        web(sql, [str(ACME), None, None], user=ANN)
    for _ in range(2):
        with pytest.raises(psycopg2.Error, match="may have 3 jobs") as told:
            web(sql, [str(ACME), None, None], user=ANN)
    assert told.value.pgcode == "PT429"
    assert "raises waiting_rows" in (told.value.diag.message_hint or "")
    web(sql, [str(BIRD), None, None], user=BOB)  # has its own
    assert Relay(database, store).drain() == 4
    web(sql, [str(ACME), None, None], user=ANN)


def test_many_rows_at_once(login: Any, bounded: Any, admin: Any) -> None:
    bounded(ACME, waiting_rows=5)
    web = login("fourlane_web")
    many = INSERT.replace("VALUES", "SELECT x.* FROM generate_series(1, {}), (VALUES").replace(
        "%s, %s, %s)", f"'{ACME}'::uuid, NULL::timestamptz, NULL)) AS x"
    )
    with pytest.raises(psycopg2.Error, match="may have 5 jobs"):
        web(many.format(6), user=ANN)
    web(many.format(5), user=ANN)
    with pytest.raises(psycopg2.Error, match="may have 5 jobs"):
        web(f"SELECT enqueue_job('resize', organization_id => '{ACME}') FROM generate_series(1, 2)", user=ANN)
    assert counted(admin) == 5


@WAYS
def test_bytes_that_wait(login: Any, bounded: Any, admin: Any, sql: str) -> None:
    bounded(ACME, waiting_bytes=2_500)
    web = login("fourlane_web")
    wide = wide_of(sql)
    values = [str(ACME), None, None, WIDE]
    web(wide, values, user=ANN)
    web(wide, values, user=ANN)
    with pytest.raises(psycopg2.Error, match="2500 bytes waiting"):
        web(wide, values, user=ANN)
    assert counted(admin) == 2


@WAYS
def test_rows_a_minute(login: Any, bounded: Any, database: Database, store: Store, sql: str) -> None:
    """However quickly they are moved on."""
    bounded(ACME, rows_a_minute=2)
    web, relay = login("fourlane_web"), Relay(database, store)
    for _ in range(2):
        web(sql, [str(ACME), None, None], user=ANN)
        relay.drain()
    with pytest.raises(psycopg2.Error, match="may put 2 jobs and 20000000 bytes a minute") as told:
        web(sql, [str(ACME), None, None], user=ANN)
    assert told.value.pgcode == "PT429"
    assert "try again in 30 s" in (told.value.diag.message_hint or "")


@WAYS
def test_bytes_a_minute(login: Any, bounded: Any, database: Database, store: Store, sql: str) -> None:
    """However quickly they are moved on, and however few rows they are."""
    bounded(ACME, bytes_a_minute=2_500)
    web, relay = login("fourlane_web"), Relay(database, store)
    wide = wide_of(sql)
    for _ in range(2):
        web(wide, [str(ACME), None, None, WIDE], user=ANN)
        relay.drain()
    with pytest.raises(psycopg2.Error, match="and 2500 bytes a minute") as told:
        web(wide, [str(ACME), None, None, WIDE], user=ANN)
    assert told.value.pgcode == "PT429"
    web(sql, [str(ACME), None, None], user=ANN)
    web(wide, [str(BIRD), None, None, WIDE], user=BOB)


@WAYS
def test_rows_wait_until_they_are_due(
    login: Any, bounded: Any, admin: Any, database: Database, store: Store, sql: str
) -> None:
    """In the table or in Redis: both are bounded."""
    bounded(ACME, waiting_rows=3)
    web, relay = login("fourlane_web"), Relay(database, store)
    for minutes in (30, 90, 400_000):
        web(sql, [str(ACME), datetime.now(UTC) + timedelta(minutes=minutes), None], user=ANN)
    assert relay.drain() == 3
    assert relay.relayed == 1
    with pytest.raises(psycopg2.Error, match="may have 3 jobs"):
        web(sql, [str(ACME), None, None], user=ANN)
    web(sql, [str(BIRD), None, None], user=BOB)
    admin.execute("UPDATE job_outbox SET run_at = now() WHERE relayed_at IS NOT NULL")
    web(sql, [str(ACME), None, None], user=ANN)


@pytest.mark.parametrize(
    ("column", "most"),
    [
        ("waiting_rows", 10**12),
        ("waiting_bytes", 10**15),
        ("rows_a_minute", 10**12),
        ("bytes_a_minute", 10**15),
        ("days_ahead", 36_500),
    ],
)
def test_a_quota_is_one_that_can_be_kept(login: Any, bounded: Any, column: str, most: int) -> None:
    for value in (-1, most + 1, 2**31, 2**63 - 1):
        if not 0 <= value <= most:
            with pytest.raises(refused.CheckViolation):
                bounded(ACME, **{column: value})
    bounded(ACME, **{column: most})
    web = login("fourlane_web")
    web(ENQUEUE, [str(ACME), None, None], user=ANN)
    web(ENQUEUE, [str(ACME), datetime.now(UTC) + timedelta(days=300), None], user=ANN)


def test_the_quota_of_all_others(login: Any, admin: Any, bounded: Any) -> None:
    admin.execute("UPDATE outbox_quotas SET waiting_rows = 1")
    try:
        bounded(BIRD, waiting_rows=2)
        web = login("fourlane_web")
        web(ENQUEUE, [str(ACME), None, None], user=ANN)
        with pytest.raises(psycopg2.Error, match="may have 1 jobs"):
            web(ENQUEUE, [str(ACME), None, None], user=ANN)
        for _ in range(2):
            web(ENQUEUE, [str(BIRD), None, None], user=BOB)
        admin.execute("UPDATE outbox_quotas SET waiting_rows = 10000")  # as it runs
        web(ENQUEUE, [str(ACME), None, None], user=ANN)
    finally:
        admin.execute("UPDATE outbox_quotas SET waiting_rows = 10000")


def test_programs_are_not_bounded(login: Any, bounded: Any, admin: Any) -> None:
    bounded(ACME, waiting_rows=0, rows_a_minute=1)
    worker = login("fourlane_worker")
    for _ in range(3):
        worker(INSERT, [str(ACME), None, None])
        admin.execute(INSERT, [str(ACME), None, None])
    assert counted(admin) == 6


def test_the_role_of_a_request_counts(login: Any, bounded: Any, admin: Any) -> None:
    """As PostgREST has it: a login that may little, and a role that it takes for each request."""
    bounded(ACME, waiting_rows=1)
    web = login("fourlane_web")
    with web.connection, web.connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE fourlane_web")
        cursor.execute("SELECT set_config('request.jwt.claims', %s, true)", [f'{{"sub": "{ANN}"}}'])
        cursor.execute(ENQUEUE, [str(ACME), None, None])
        with pytest.raises(psycopg2.Error, match="may have 1 jobs"):
            cursor.execute(ENQUEUE, [str(ACME), None, None])
        web.connection.rollback()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE outbox_quotas SET waiting_rows = 1000000",
        "SELECT * FROM outbox_quotas",
        "SELECT * FROM outbox_usage",
        "DELETE FROM outbox_usage",
        "TRUNCATE outbox_usage",
        f"SELECT fourlane_take_quota('{BIRD}', 1000000, 1, NULL)",
        "ALTER TABLE job_outbox DISABLE TRIGGER fourlane_outbox_bounds",
    ],
)
def test_members_may_not(login: Any, sql: str) -> None:
    with pytest.raises(refused.InsufficientPrivilege):
        login("fourlane_web")(sql, user=ANN)


def test_a_transaction_that_stays_open_holds_up_nobody_else(
    login: Any, bounded: Any, database: Database, store: Store
) -> None:
    """Not another organization, and no relay."""
    web, other = login("fourlane_web"), login("fourlane_web")
    web(ENQUEUE, [str(ACME), None, None], user=ANN)
    with web.connection, web.connection.cursor() as cursor:
        cursor.execute("SELECT set_config('request.jwt.claims', %s, true)", [f'{{"sub": "{ANN}"}}'])
        cursor.execute(ENQUEUE, [str(ACME), None, None])
        other("SET lock_timeout = '2s'")
        other(ENQUEUE, [str(BIRD), None, None], user=BOB)
        other("INSERT INTO job_outbox (task, service, tier, organization_id) VALUES ('resize', 'images', 0, %s)",
              [str(BIRD)], user=BOB)  # fmt: skip
        assert Relay(database, store).drain() == 3
    assert Relay(database, store).drain() == 1


def test_rows_from_before_there_were_bounds(admin: Any, database: Database, store: Store) -> None:
    """They are there when the bounds come, which do not look at them; the relay marks them."""
    admin.execute("ALTER TABLE job_outbox DROP CONSTRAINT job_outbox_moments_are_from_1970_to_9999")
    for run_at in ("0044-03-15 BC", "infinity", None):
        admin.execute(INSERT, [str(ACME), run_at, "k"])
    from fourlane.db import migrate

    [bounds] = [one for one in migrate.load("postgresql") if one.description == "outbox_bounds"]
    admin.execute(bounds.up)
    relay = Relay(database, store)
    assert (relay.drain(), relay.failed) == (3, 2)
    admin.execute("SELECT error FROM job_outbox WHERE failed_at IS NOT NULL")
    assert all("is no moment of the years 1970 to 9999" in error for (error,) in admin.fetchall())
    with pytest.raises(refused.CheckViolation):  # to be tried again, it must be mended
        admin.execute("UPDATE job_outbox SET failed_at = NULL, error = NULL")
    admin.execute("UPDATE job_outbox SET failed_at = NULL, error = NULL, run_at = NULL WHERE failed_at IS NOT NULL")
    assert relay.drain() == 2
    assert browse.services(store)[0].queues[0].ready == 3
