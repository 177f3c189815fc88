"""Organizations in turns, and batches that fit the way to Redis."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import insert, select

from fourlane.db.engine import Database, open_database
from fourlane.db.models import JobOutbox
from fourlane.errors import RedisUnavailable
from fourlane.outbox import handover
from fourlane.outbox.relay import Relay
from fourlane.outbox.turns import Turns
from fourlane.queues.store import Store

ONE, TWO, THREE = (uuid.UUID(int=n) for n in range(1, 4))


@pytest.fixture
def postgresql(migrated_postgres_url: str) -> Iterator[Database]:
    opened = open_database(migrated_postgres_url)
    yield opened
    opened.close()


def write(database: Database, count: int, organization: uuid.UUID | None, **columns: Any) -> None:
    rows = [
        {"id": uuid.uuid4(), "task": "resize", "service": "images", "organization_id": organization} | columns
        for _ in range(count)
    ]
    with database.begin() as session:
        session.execute(insert(JobOutbox.__table__), rows)  # type: ignore[arg-type]


def waiting(database: Database) -> dict[uuid.UUID | None, int]:
    counted: dict[uuid.UUID | None, int] = {}
    with database.begin() as session:
        for organization in session.scalars(select(JobOutbox.organization_id).where(JobOutbox.relayed_at.is_(None))):
            counted[organization] = counted.get(organization, 0) + 1
    return counted


def test_who_comes_last_waits_for_one_batch(postgresql: Database, store: Store) -> None:
    write(postgresql, 2_000, ONE)
    relay = Relay(postgresql, store, batch=50)
    relay.step()
    write(postgresql, 10, TWO)
    write(postgresql, 3, None)
    assert relay.step() == 16 + 10 + 3
    assert waiting(postgresql) == {ONE: 2_000 - 50 - 16}
    assert relay.step() == 50
    assert relay.drain() == 2_000 - 50 - 16 - 50
    assert waiting(postgresql) == {}


def test_more_organizations_than_a_batch_has_rows(postgresql: Database, store: Store) -> None:
    for n in range(1, 8):
        write(postgresql, 5, uuid.UUID(int=n))
    write(postgresql, 5, None)
    relay = Relay(postgresql, store, batch=3)
    relay.step()
    for _ in range(6):
        assert relay.step()
    assert all(count < 5 for count in waiting(postgresql).values())
    relay.drain()
    assert waiting(postgresql) == {}


def test_an_organization_whose_rows_are_all_locked_costs_no_turn(postgresql: Database, store: Store) -> None:
    write(postgresql, 60, ONE)
    write(postgresql, 60, TWO)
    relay = Relay(postgresql, store, batch=50)
    relay.step()
    with postgresql.begin() as session:
        session.execute(select(JobOutbox.id).where(JobOutbox.organization_id == ONE).with_for_update()).all()
        relay.drain()
    assert waiting(postgresql) == {ONE: 10}
    relay.drain()
    assert waiting(postgresql) == {}


def test_the_order_of_keys_in_turns(postgresql: Database, store: Store) -> None:
    """Four relays, small batches, three organizations that use the same key."""
    for _ in range(20):
        for organization in (ONE, TWO, THREE, None):
            write(postgresql, 2, organization, order_key="account-1")
            write(postgresql, 1, organization)
    relays = [Relay(postgresql, store, batch=7) for _ in range(4)]

    def work(relay: Relay) -> None:
        while waiting(postgresql):
            relay.step()

    threads = [threading.Thread(target=work, args=[relay]) for relay in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(relay.relayed for relay in relays) == 240
    key = store.service("images").ready[1]
    entries = store.connector.command(key, "LRANGE", key, 0, -1)
    places = {entry.decode().split("|")[0][2:]: place for place, entry in enumerate(entries)}
    with postgresql.begin() as session:
        rows = session.scalars(select(JobOutbox).where(JobOutbox.order_key.is_not(None)).order_by(JobOutbox.position))
        of_each: dict[uuid.UUID | None, list[int]] = {}
        for row in rows:
            of_each.setdefault(row.organization_id, []).append(places[str(row.id)])
    assert len(of_each) == 4
    assert all(found == sorted(found) for found in of_each.values())


def test_a_full_batch_is_what_makes_turns(database: Database) -> None:
    """And an outbox that is not crowded is asked once for each batch."""
    turns = Turns(database.dialect)
    write(database, 4, ONE)
    write(database, 4, TWO)
    with database.engine.begin() as connection:
        assert [place.position for place in turns.take(connection, 9)] == [1, 2, 3, 4, 5, 6, 7, 8]
        assert [place.position for place in turns.take(connection, 4)] == [1, 2, 3, 4]
        turn = [place.position for place in turns.take(connection, 4)]
        assert turn == ([1, 2, 5, 6] if database.dialect == "postgresql" else [1, 2, 3, 4])


class Link:
    """A way to Redis on which a batch of more than so many bytes is too late."""

    def __init__(self, carries: int) -> None:
        self.carries = carries
        self.calls: list[int] = []
        self._relay = handover.relayed.relay

    def __call__(self, store: Store, service: str, jobs: Sequence[Any], **given: Any) -> Any:
        self.calls.append(sum(len(job.body) for job in jobs))
        if self.calls[-1] > self.carries:
            given["not_after_ms"] = 0
        return self._relay(store, service, jobs, **given)


def test_a_batch_that_is_too_slow_becomes_smaller(
    database: Database, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down to a single row, and grows again when the link does."""
    write(database, 12, ONE, args=f'["{"x" * 300_000}"]')
    link = Link(400_000)
    monkeypatch.setattr(handover.relayed, "relay", link)
    relay = Relay(database, store)
    troubles = 0
    while waiting(database):
        with suppress(RedisUnavailable):
            relay.step()
            continue
        troubles += 1
        assert troubles < 40
    assert relay.relayed == 12
    link.carries, link.calls = 10_000_000, []
    write(database, 500, ONE)
    relay.drain()
    assert len(link.calls) < 20


def test_what_arrived_of_a_slow_batch_is_kept(
    database: Database, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch goes in several calls; the time is over after the first."""
    write(database, 8, ONE, args=f'["{"x" * 900_000}"]')
    monkeypatch.setattr(handover, "SLOW_SECONDS", -1.0)
    monkeypatch.setattr("fourlane.outbox.relay.SLOW_SECONDS", -1.0)
    relay = Relay(database, store)
    assert relay.step() == 4
    assert relay._batch < 50
    assert relay.drain() == 4
    assert waiting(database) == {}


def test_a_redis_that_fails_is_asked_for_less(
    database: Database, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(database, 100, ONE)
    relay_ = handover.relayed.relay

    def fails(store: Store, service: str, jobs: Sequence[Any], **given: Any) -> Any:
        if len(jobs) > 5:
            raise RedisUnavailable("the link broke on the way")
        return relay_(store, service, jobs, **given)

    monkeypatch.setattr(handover.relayed, "relay", fails)
    relay = Relay(database, store)
    steps = 0
    while waiting(database):
        with suppress(RedisUnavailable):
            relay.step()
        steps += 1
        assert steps < 200
