"""Many fresh jobs in one call: parts that overlap, connections that break between them, ids that meet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from fourlane import codec, job
from fourlane.errors import InvalidArguments, RedisUnavailable
from fourlane.queues.broker import RedisBroker
from fourlane.queues.keys import ServiceKeys
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Store
from fourlane.tasks.task import task
from tests.proxy import FaultyProxy

NOW = 1_764_000_000_000
COUNT = 1_100


def bodies(count: int = COUNT) -> list[bytes]:
    return [codec.encode("send", [number]) for number in range(count)]


def waiting(store: Store, tier: int = 2) -> list[str]:
    """The ids of ready jobs in their order, each with its body."""
    keys, client = store.service("mail"), store.connector.client
    entries: Any = client.lrange(keys.ready[tier], 0, -1)
    assert client.hlen(keys.jobs) == len(entries)
    assert [client.hget(keys.jobs, entry) for entry in entries] == bodies(len(entries))
    return [entry.decode() for entry in entries]


@pytest.fixture
def proxied(redis_url: str, namespace: str) -> Iterator[tuple[Store, FaultyProxy]]:
    server = urlsplit(redis_url)
    with FaultyProxy(server.hostname or "", server.port or 0) as proxy:
        store = Store(Connector(client_of(proxy.url(redis_url))), namespace=namespace, environment="local")
        yield store, proxy
        store.connector.close()


@pytest.mark.parametrize("start", [0, 4_000, 2**36 - 7, 2**24 - 1])
def test_fresh_ids_are_distinct_and_in_order(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_random", lambda: start)
    ids = job.new_ids(2, NOW, 10_000)
    assert len(set(ids)) == 10_000
    assert {len(i) for i in ids} == {14}
    assert {job.enqueued_at_ms(i) for i in ids} == {NOW}
    assert ids[0] == job.new_id(2, NOW)
    if start + 10_000 < 2**36:
        assert ids == sorted(ids)


@pytest.mark.parametrize("count", [0, 1, 2, 250, 251, COUNT])
def test_all_are_accepted_in_their_order(store: Store, count: int) -> None:
    ids = store.enqueue_new("mail", 2, bodies(count), NOW)
    assert len(ids) == count
    assert waiting(store) == ids


def test_a_server_that_does_not_know_the_script(store: Store) -> None:
    store.enqueue_new("other", 2, bodies(1), NOW)
    store.connector.client.script_flush()
    ids = store.enqueue_new("mail", 2, bodies(), NOW)
    assert waiting(store) == ids


class Breaking(list[bytes]):
    """Bodies that break all connections when the third part of them is asked for."""

    def __init__(self, proxy: FaultyProxy) -> None:
        super().__init__(bodies())
        self.proxy = proxy
        self.parts = 0

    def __getitem__(self, place: Any) -> Any:
        self.parts += 1
        if self.parts == 3:
            self.proxy.cut()
        return super().__getitem__(place)


def test_a_connection_lost_between_two_parts_neither_loses_nor_doubles(proxied: tuple[Store, FaultyProxy]) -> None:
    store, proxy = proxied
    ids = store.enqueue_new("mail", 2, Breaking(proxy), NOW)
    assert waiting(store) == ids


def test_a_lost_reply_neither_loses_nor_doubles(proxied: tuple[Store, FaultyProxy]) -> None:
    store, proxy = proxied
    proxy.drop_next_reply(b"EVALSHA")
    ids = store.enqueue_new("mail", 2, bodies(), NOW)
    proxy.wait_dropped()
    assert waiting(store) == ids


def test_an_id_that_belongs_to_another_job_is_replaced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([1_000, 0, 1_100, 0, 50_000])  # the second call's first ids are the first call's last ones
    with monkeypatch.context() as patch:
        patch.setattr(job, "_random", lambda: next(numbers, 0))
        first = store.enqueue_new("mail", 2, bodies(200), NOW)
        second = store.enqueue_new("mail", 2, [codec.encode("later", [n]) for n in range(200)], NOW)
    client, keys = store.connector.client, store.service("mail")
    assert len({*first, *second}) == 400 == client.llen(keys.ready[2])
    assert client.hmget(keys.jobs, first) == bodies(200)
    assert client.hmget(keys.jobs, second) == [codec.encode("later", [n]) for n in range(200)]


def test_one_id_twice_in_a_call(store: Store) -> None:
    fresh, twice = job.new_ids(1, NOW, 2)
    body, other = bodies(2)
    store.enqueue("mail", 1, (fresh, body, twice, other, twice, other))
    client, keys = store.connector.client, store.service("mail")
    assert client.lrange(keys.ready[1], 0, -1) == [fresh.encode(), twice.encode()]
    assert client.hgetall(keys.jobs) == {fresh.encode(): body, twice.encode(): other}


def test_a_refused_argument_refuses_all(broker: RedisBroker) -> None:
    @task(service="mail")
    def note(number: object) -> None: ...

    with pytest.raises(InvalidArguments, match="set"):
        note.send_many([*[[n] for n in range(900)], [{1, 2}]])
    assert not broker.client.exists(broker.store.service("mail").jobs)


def test_a_server_that_refuses_a_part(store: Store) -> None:
    keys: ServiceKeys = store.service("mail")
    store.connector.client.set(keys.ready[2], "not a list")
    with pytest.raises(RedisUnavailable, match=r"WRONGTYPE|wrong kind"):
        store.enqueue_new("mail", 2, bodies(), NOW)
    # The connection that had replies to come is not used again.
    assert len(store.enqueue_new("mail", 1, bodies(3), NOW)) == 3
    assert store.connector.client.llen(keys.ready[1]) == 3
