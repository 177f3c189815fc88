"""Opening the database, what columns keep, and what is said when it is not there."""

from __future__ import annotations

import threading
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError, StatementError

from fourlane import crypto
from fourlane.db.engine import Database, open_database
from fourlane.db.models import CreditAccount, Organization, PaymentMethod, Subscription, WebhookEndpoint
from fourlane.errors import DatabaseUnavailable, EncryptionError, SettingsError
from tests.postgres import connect
from tests.servers import eventually, free_port


@pytest.mark.parametrize(
    ("url", "transaction_pooler", "listens"),
    [
        ("postgresql://u:p@h:5432/d", None, True),
        ("postgres://u:p@h/d", None, True),  # as some hosts write it
        ("postgresql://u:p@h:6543/d", None, False),  # Supabase's transaction pooler
        ("postgresql://u:p@h:6543/d", False, True),
        ("postgresql://u:p@h:7777/d", True, False),
        ("postgresql://u:p@h:7777/d?pgbouncer=true&connection_limit=1", None, False),  # as Prisma has it
        ("postgresql://u:p@h:6543/d?pgbouncer=false&sslmode=require", None, True),
        ("postgresql://u:p@h:7777/d?pgbouncer=true", False, True),
    ],
)
def test_a_transaction_pooler_is_known_by_its_url(url: str, transaction_pooler: bool | None, listens: bool) -> None:
    assert open_database(url, transaction_pooler=transaction_pooler).listens is listens


@pytest.mark.parametrize(
    "url", ["", "secret", "mysql://u:secret@h/d", "postgresql://u:sec/ret@h:x/d", "redis://u:secret@h"]
)
def test_what_is_no_database(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: ") as caught:
        open_database(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_of_other_clients_are_left_out(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    others = "pgbouncer=true&connection_limit=1&schema=public&supa=base-pooler.x"
    database = open_database(f"{postgres_url}?{others}&sslmode=prefer")
    with database.begin() as session:
        assert session.execute(text("SELECT 1")).scalar() == 1
    assert "left out what is for other clients: connection_limit, schema, supa" in caplog.text
    database.close()


def test_an_option_that_nobody_knows_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: its option colour is not known; leave it out$"):
        open_database("postgresql://u:p@h/d?sslmode=require&colour=red")


def test_a_server_that_is_not_there() -> None:
    database = open_database(f"postgresql://u:secret@127.0.0.1:{free_port()}/d")
    with pytest.raises(DatabaseUnavailable, match="is the server running") as caught, database.begin() as session:
        session.execute(text("SELECT 1"))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_connections_that_the_server_closed_are_replaced(postgres_url: str) -> None:
    database = open_database(postgres_url, pool_size=1)
    with database.begin() as session:
        [pid] = session.execute(text("SELECT pg_backend_pid()")).one()
    other = open_database(postgres_url)
    with other.begin() as session:
        session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    with database.begin() as session:
        assert session.execute(text("SELECT 1")).one() == (1,)
    database.close()
    other.close()


def test_one_lost_on_the_way_is_unavailable(postgres_url: str) -> None:
    database = open_database(postgres_url)
    with pytest.raises(DatabaseUnavailable), database.begin() as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    database.close()


def test_a_statement_that_takes_too_long_is_ended(postgres_url: str) -> None:
    for pooled in (False, True):
        database = open_database(postgres_url, statement_timeout_ms=50, transaction_pooler=pooled)
        with pytest.raises(DatabaseUnavailable, match="statement timeout"), database.begin() as session:
            session.execute(text("SELECT pg_sleep(5)"))
        database.close()


@pytest.mark.parametrize("pooled", [False, True])
def test_a_transaction_that_does_nothing_is_ended(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, pooled: bool
) -> None:
    monkeypatch.setattr("fourlane.db.engine._IDLE_TRANSACTION_MS", 100)
    database = open_database(postgres_url, transaction_pooler=pooled)
    other = connect(postgres_url).cursor()

    def sleep() -> None:
        with database.begin() as session:
            [pid] = session.execute(text("SELECT pg_backend_pid()")).one()
            look = f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"
            eventually(lambda: other.execute(look) or not other.fetchall())
            session.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailable):
        sleep()
    database.close()
    other.connection.close()


def test_all_connections_in_use(postgres_url: str) -> None:
    database = open_database(postgres_url, pool_size=1, pool_timeout_seconds=1)
    with database.begin() as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(DatabaseUnavailable, match="POOL_SIZE"), database.begin() as second:
            second.execute(text("SELECT 1"))
    database.close()


def test_other_errors_keep_their_kind(database: Database) -> None:
    with pytest.raises(IntegrityError), database.begin() as session:
        session.add_all([Organization(name="a", slug="same"), Organization(name="b", slug="same")])


def test_moments_keep_their_zone(database: Database) -> None:
    east = datetime(2026, 1, 1, 0, 30, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    with database.begin() as session:
        acme = Organization(name="Acme")
        session.add(acme)
        session.flush()
        session.add(
            Subscription(organization_id=acme.id, provider="stripe", provider_subscription_id="s", status="active",
                         current_period_end=east)
        )  # fmt: skip
    with database.begin() as session:
        [read] = session.query(Subscription).all()
        assert read.current_period_end == east
        assert read.current_period_end.tzinfo is UTC
        assert abs(read.created_at - datetime.now(UTC)) < timedelta(minutes=1)
        assert session.query(Subscription).where(Subscription.current_period_end <= east).count() == 1
        assert session.query(Subscription).where(Subscription.current_period_end < east).count() == 0


def test_a_moment_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="has no time zone"), database.begin() as session:
        session.add(Organization(name="Acme", created_at=datetime(2026, 1, 1)))


def test_updated_at_follows(database: Database) -> None:
    with database.begin() as session:
        acme = Organization(name="Acme", updated_at=datetime(2020, 1, 1, tzinfo=UTC))
        session.add(acme)
    with database.begin() as session:
        session.execute(update(Organization).values(name="Other"))
    with database.begin() as session:
        assert session.query(Organization).one().updated_at.year >= 2026


def test_large_amounts_are_exact(database: Database) -> None:
    with database.begin() as session:
        acme = Organization(name="Acme")
        session.add(acme)
        session.flush()
        session.add(CreditAccount(organization_id=acme.id, balance=2**53 + 1))
    with database.begin() as session:
        assert session.query(CreditAccount).one().balance == 2**53 + 1


@pytest.mark.parametrize("number", [0, 10**30, 0x12345678901234567890123456789012, 0x12E45678901234567890123456789012])
def test_ids_that_look_like_numbers_stay_ids(database: Database, number: int) -> None:
    with database.begin() as session:
        session.add(Organization(id=uuid.UUID(int=number), name="Acme"))
    with database.begin() as session:
        assert session.query(Organization).one().id == uuid.UUID(int=number)


def test_personal_data_is_encrypted(database: Database, keys: crypto.Keyring) -> None:
    with database.begin() as session:
        acme = Organization(name="Acme")
        session.add(acme)
        session.flush()
        session.add(
            PaymentMethod(organization_id=acme.id, provider="stripe", provider_payment_method_id="p", kind="card",
                          holder_name="Ann Ä.")
        )  # fmt: skip
    with database.begin() as session:
        assert session.query(PaymentMethod).one().holder_name == "Ann Ä."
        stored = bytes(session.execute(text("SELECT holder_name FROM payment_methods")).scalar_one())
        assert b"Ann" not in stored
        session.execute(text("UPDATE payment_methods SET holder_email = holder_name"))
    with pytest.raises(EncryptionError, match="belongs elsewhere"), database.begin() as session:
        session.query(PaymentMethod).one()


def test_without_keys_nothing_personal_is_written(database: Database) -> None:
    crypto.configure(None)
    with pytest.raises(EncryptionError, match="FOURLANE_ENCRYPTION_KEYS is not set"), database.begin() as session:
        session.add(WebhookEndpoint(url="https://example.org", secret="s"))
    with database.begin() as session:
        assert session.query(WebhookEndpoint).all() == []


def test_the_one_lock_of_sqlite_is_waited_for_in_short_steps(tmp_path: Path) -> None:
    """Who waits has it soon after it is free, though others take it again and again."""
    url = f"sqlite:///{tmp_path}/a.db"
    database, stop, waits = open_database(url, statement_timeout_ms=10_000), threading.Event(), []

    def hold() -> None:
        other = open_database(url)
        while not stop.is_set():
            with other.begin() as session:
                session.execute(text("SELECT 1"))
                stop.wait(0.01)
            stop.wait(0.001)
        other.close()

    threads = [threading.Thread(target=hold) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            began = time.monotonic()
            with database.begin() as session:
                session.execute(text("SELECT 1"))
            waits.append(time.monotonic() - began)
            stop.wait(0.02)  # and the others have it again
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        database.close()
    assert sum(waits) < 5.0, waits


def test_a_lock_that_is_never_free(tmp_path: Path) -> None:
    holder, other = (open_database(f"sqlite:///{tmp_path}/a.db", statement_timeout_ms=300) for _ in range(2))
    with holder.begin() as session:
        session.execute(text("SELECT 1"))
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="locked"), other.begin() as waiting:
            waiting.execute(text("SELECT 1"))
        assert 0.3 <= time.monotonic() - began < 2
    with other.begin() as session:
        assert session.execute(text("SELECT 1")).one() == (1,)
    holder.close()
    other.close()
