"""Jobs that are not due for long wait in the table, in nobody's way, and go to Redis when they are near."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.dialects import postgresql

from fourlane.db.engine import Database
from fourlane.db.models import JobOutbox
from fourlane.outbox import browse
from fourlane.outbox.browse import Late, Summary
from fourlane.outbox.doctor import examine_outbox
from fourlane.outbox.held import NEAR_SECONDS, until_ms
from fourlane.outbox.relay import Relay
from fourlane.outbox.turns import Turns
from fourlane.queues.doctor import Level
from fourlane.queues.store import Store
from tests.outbox.test_turns import ONE, write
from tests.outbox.test_turns import postgresql as postgresql_database  # noqa: F401

NEAR_MS = NEAR_SECONDS * 1000
LONG_AGO = datetime.now(UTC) - timedelta(days=3)


def due_in(**given: float) -> datetime:
    return datetime.now(UTC) + timedelta(**given)


def scores(store: Store) -> list[int]:
    key = store.service("images").delayed
    found = store.connector.command(key, "ZRANGE", key, 0, -1, "WITHSCORES")
    return [int(float(score)) for _, score in found]


@pytest.mark.parametrize(
    ("due_ms", "until"),
    [
        (0, None),  # long over
        (NEAR_MS + 5, None),  # just near
        (NEAR_MS + 6, 6),  # not yet
        (NEAR_MS * 9, NEAR_MS * 8),
    ],
)
def test_what_is_near(due_ms: int, until: int | None) -> None:
    assert until_ms(due_ms, now_ms=5) == until


def test_rows_wait_in_the_table_until_they_are_near(database: Database, store: Store) -> None:
    far = due_in(days=2).replace(microsecond=0)
    write(database, 3, ONE, run_at=far, order_key="account-1")
    write(database, 1, ONE, run_at=due_in(minutes=30), order_key="account-1")
    write(database, 1, None)
    relay = Relay(database, store)
    assert relay.drain() == 5
    assert (relay.relayed, relay.drain(), len(scores(store))) == (2, 0, 1)
    with database.begin() as session:
        untils = session.scalars(select(JobOutbox.held_until).where(JobOutbox.relayed_at.is_(None))).all()
        assert untils == [far - timedelta(hours=1)] * 3
        near = far - timedelta(days=2) + timedelta(minutes=20)
        times = {"run_at": near, "held_until": near - timedelta(hours=1)}
        session.execute(update(JobOutbox).where(JobOutbox.position < 3).values(times))  # time goes by
    assert Relay(database, store).drain() == 2
    assert sorted(scores(store))[:2] == [int(near.timestamp() * 1000)] * 2


def test_a_row_that_is_no_job_is_told_at_once(database: Database, store: Store) -> None:
    """And not when it is near."""
    write(database, 1, ONE, run_at=due_in(days=500))
    write(database, 1, ONE, run_at=due_in(days=2), options='{"max_retries": "many"}')
    relay = Relay(database, store)
    assert relay.drain() == 2
    assert relay.failed == 2


def test_they_are_not_late(database: Database, store: Store) -> None:
    """Neither before a relay came, nor held, nor when they are near at last."""
    write(database, 2, ONE, run_at=due_in(days=2), created_at=LONG_AGO)
    assert (browse.summary(database).oldest_age_ms, browse.late_services(database, 60)) == (0, [])
    Relay(database, store).drain()
    assert browse.summary(database) == Summary(0, None, 0, held=2)
    assert [fill.rows for fill in browse.fullest(database)] == ([] if database.dialect == "sqlite" else [2])  # no quota
    [finding] = examine_outbox(database)
    assert finding.level is Level.OK
    assert "2 are not due for long" in finding.text
    with database.begin() as session:
        session.execute(update(JobOutbox).values(run_at=due_in(seconds=NEAR_SECONDS - 5), held_until=None))
    assert 5_000 <= (browse.summary(database).oldest_age_ms or 0) < 20_000
    with database.begin() as session:
        session.execute(update(JobOutbox).values(run_at=due_in(seconds=NEAR_SECONDS - 500)))
    assert browse.summary(database).oldest_age_ms or 0 > 500_000
    assert browse.late_services(database, 60) == [Late("images", 2)]


def test_many_that_are_held_cost_others_nothing(postgresql_database: Database) -> None:  # noqa: F811
    """What a relay asks reads the rows that it gets, and no other."""
    write(postgresql_database, 2_000, ONE, run_at=due_in(days=9), held_until=due_in(days=8))
    write(postgresql_database, 3, ONE)
    with postgresql_database.engine.begin() as connection:
        connection.execute(text("ANALYZE job_outbox"))
        query = Turns("postgresql")._waiting([], []).limit(500)
        compiled = query.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
        plan = "\n".join(connection.execute(text(f"EXPLAIN (ANALYZE) {compiled}")).scalars())
    assert "ix_job_outbox_pending" in plan
    assert "Rows Removed by Filter" not in plan
