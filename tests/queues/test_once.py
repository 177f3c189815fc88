"""A call that accepts jobs and whose reply was lost: it is known when it comes again, though its jobs are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import dramatiq
import dramatiq.broker
import pytest

from fourlane import codec
from fourlane.errors import DuplicateJob, RedisUnavailable
from fourlane.job import new_id
from fourlane.queues.broker import RedisBroker
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Delayed, Store
from fourlane.tasks.task import task
from tests.conftest import StartServer
from tests.proxy import FaultyProxy
from tests.queues.conftest import Hand
from tests.servers import eventually
from tests.worker.conftest import RunWorker, run_worker

__all__ = ["run_worker"]

NOW = 1_764_000_000_000
BODY = codec.encode("send", [1])

Send = Callable[[Store], list[str]]


def send_one(store: Store) -> list[str]:
    ids = [new_id(1, NOW)]
    store.enqueue("mail", 1, (ids[0], BODY))
    return ids


def send_some(store: Store) -> list[str]:
    ids = [new_id(1, NOW + n) for n in range(3)]
    store.enqueue("mail", 1, [word for i in ids for word in (i, BODY)])
    return ids


def send_new(store: Store) -> list[str]:
    return store.enqueue_new("mail", 1, [BODY] * 3, NOW)


def send_later(store: Store) -> list[str]:
    ids = [new_id(1, NOW + n) for n in range(3)]
    store.delay("mail", [Delayed(i, BODY, 0) for i in ids])
    return ids


SENDS = [send_one, send_some, send_new, send_later]


@pytest.fixture
def producer(redis_url: str, namespace: str, proxy: FaultyProxy) -> Iterator[Store]:
    opened = Store(Connector(client_of(proxy.url(redis_url))), namespace=namespace, environment="local")
    opened.enqueue("mail", 3, (new_id(3, NOW), BODY))  # the scripts are known, a connection is there
    opened.delay("mail", [Delayed(new_id(3, NOW), BODY, 3_600_000)])
    yield opened
    opened.connector.close()


def work(hand: Hand) -> list[str]:
    """Do all jobs of the tier, as a worker that is at it at once; returns their ids."""
    leased = [job.entry for job in hand.turn(100).jobs if job.entry[0] == "1"]
    hand.turn(done=leased)
    return [entry.partition("|")[0] for entry in leased]


@pytest.mark.parametrize("send", SENDS)
def test_jobs_that_were_done_before_their_call_was_repeated(
    hand: Hand, producer: Store, proxy: FaultyProxy, send: Send
) -> None:
    done: list[str] = []
    proxy.drop_next_reply(b"EVALSHA", then=lambda: done.extend(work(hand)))
    ids = send(producer)
    assert sorted(done) == sorted(ids)
    assert work(hand) == []
    assert work(hand) == work(hand) == []


@pytest.mark.parametrize("send", SENDS)
def test_a_request_that_comes_after_its_repetition(hand: Hand, producer: Store, proxy: FaultyProxy, send: Send) -> None:
    proxy.hold_next_request(b"EVALSHA")
    ids = send(producer)
    assert sorted(work(hand)) == sorted(ids)
    send_one(producer)
    assert len(work(hand)) == 1
    proxy.deliver_held()
    assert work(hand) == []


@pytest.mark.parametrize("send", SENDS)
def test_a_request_that_never_came(hand: Hand, producer: Store, proxy: FaultyProxy, send: Send) -> None:
    proxy.cut()
    ids = send(producer)
    assert sorted(work(hand)) == sorted(ids)


def test_scripts_that_are_gone_when_the_call_is_repeated(hand: Hand, producer: Store, proxy: FaultyProxy) -> None:
    done: list[str] = []

    def then() -> None:
        done.extend(work(hand))
        hand.store.connector.client.script_flush()

    proxy.drop_next_reply(b"EVALSHA", then=then)
    ids = send_new(producer)
    assert sorted(done) == sorted(ids)
    assert work(hand) == []


@pytest.mark.parametrize(
    "give",
    [
        lambda store, taken, _: store.enqueue("mail", 1, (taken, BODY)),
        lambda store, taken, fresh: store.enqueue("mail", 1, (taken, BODY, fresh, BODY)),
        lambda store, taken, fresh: store.delay("mail", [Delayed(taken, BODY, 0), Delayed(fresh, BODY, 0)]),
    ],
)
def test_an_id_of_another_job_is_told_though_the_reply_was_lost(
    hand: Hand, producer: Store, proxy: FaultyProxy, give: Callable[[Store, str, str], None]
) -> None:
    taken, fresh = new_id(1, NOW), new_id(1, NOW + 1)
    producer.enqueue("mail", 1, (taken, codec.encode("other")))
    proxy.drop_next_reply(b"EVALSHA", then=lambda: work(hand))
    with pytest.raises(DuplicateJob, match=f"1 .*{taken}"):
        give(producer, taken, fresh)
    proxy.wait_dropped()
    producer.enqueue("mail", 1, (taken, BODY))  # by now it is free
    assert taken in work(hand)


@pytest.mark.parametrize("send", SENDS)
def test_an_error_is_told_though_the_reply_was_lost(producer: Store, proxy: FaultyProxy, send: Send) -> None:
    keys = producer.service("mail")
    producer.connector.client.delete(keys.jobs)
    producer.connector.client.set(keys.jobs, "no hash")
    proxy.drop_next_reply(b"EVALSHA")
    with pytest.raises(RedisUnavailable, match="wrong kind"):
        send(producer)
    proxy.wait_dropped()


def test_a_server_that_was_full_when_the_call_was_repeated(start_server: StartServer) -> None:
    server = start_server(aof=False)
    with FaultyProxy("127.0.0.1", server.port) as proxy:
        store = Store(Connector(client_of(proxy.url(server.url))))
        hand = Hand(Store(Connector(client_of(server.url))))
        send_one(store)
        assert len(work(hand)) == 1
        done: list[str] = []

        def then() -> None:
            done.extend(work(hand))
            server.config("SET", "maxmemory", "1")

        proxy.drop_next_reply(b"EVALSHA", then=then)
        assert send_one(store) == done
        with pytest.raises(RedisUnavailable, match="memory"):
            send_one(store)
        server.config("SET", "maxmemory", "0")
        assert send_some(store) == work(hand)
        hand.link.close()
        hand.store.connector.close()
        store.connector.close()


def test_refused_parts_of_a_long_call(start_server: StartServer) -> None:
    """The first part is refused and the second not: neither is taken for the other when all is tried again."""
    server = start_server(aof=False)
    store = Store(Connector(client_of(server.url)))
    hand = Hand(Store(Connector(client_of(server.url))))

    class Bodies(list[bytes]):
        def __getitem__(self, place: object) -> object:  # type: ignore[override]
            part = super().__getitem__(place)  # type: ignore[index]
            server.config("SET", "maxmemory", "1" if isinstance(place, slice) and place.start == 0 else "0")
            return part

    ids = store.enqueue_new("mail", 1, Bodies([BODY] * 600), NOW)
    found: list[str] = []
    while some := work(hand):
        found += some
    assert sorted(found) == sorted(ids)
    hand.link.close()
    hand.store.connector.close()
    store.connector.close()


# With a worker ----------------------------------------------------------------------------------------------


@pytest.fixture
def sender(redis_url: str, namespace: str, proxy: FaultyProxy) -> Iterator[RedisBroker]:
    before = dramatiq.broker.global_broker
    opened = RedisBroker(url=proxy.url(redis_url), namespace=namespace)
    dramatiq.set_broker(opened)
    yield opened
    opened.close()
    dramatiq.broker.global_broker = before


def test_a_cut_amid_many(sender: RedisBroker, broker: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker) -> None:
    ran: Counter[int] = Counter()

    def note(number: int) -> None:
        ran[number] += 1

    dramatiq.set_broker(broker)
    task(name="note")(note)
    dramatiq.set_broker(sender)
    sending = task(name="note")(note)
    run_worker(broker, slots=4)
    count = 20_000

    def numbers() -> Iterator[list[int]]:
        for number in range(count):
            yield [number]

    proxy.drop_replies(0.04, seed=3)
    jobs = sending.send_many(numbers())
    assert proxy.lost_replies >= 2
    proxy.heal()
    eventually(lambda: len(ran) == count, 20)
    keys = broker.store.service("default")
    eventually(lambda: broker.client.hlen(keys.jobs) == 0)
    assert sum(ran.values()) == count
    assert len({job.id for job in jobs}) == count


def test_what_is_remembered_ends(store: Store) -> None:
    send_one(store)
    send_new(store)
    client, keys = store.connector.client, store.service("mail")
    names = list(client.scan_iter(match=keys.sent + b"*", count=1_000))
    assert 1 <= len(names) <= 2
    assert all(60_000 < client.pttl(name) <= 90_000 for name in names)


def test_a_producer_that_slept_for_long(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    client, keys = store.connector.client, store.service("mail")
    for _ in range(3):
        send_one(store)
    before = set(client.scan_iter(match=keys.sent + b"*", count=1_000))
    client.delete(*before)  # as if their time were over while the producer was stopped
    send_one(store)
    (name,) = client.scan_iter(match=keys.sent + b"*", count=1_000)
    assert name in before
    assert 60_000 < client.pttl(name) <= 90_000
    monkeypatch.setattr("fourlane.queues.redis.link._ORIGIN_SECONDS", 0.0)
    store.connector._idle.close()
    for _ in range(3):
        send_one(store)
    names = set(client.scan_iter(match=keys.sent + b"*", count=1_000))
    assert len(names - before) == 3
    assert all(60_000 < client.pttl(name) <= 90_000 for name in names)


def test_lost_replies_among_single_sends(
    sender: RedisBroker, broker: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    ran: Counter[int] = Counter()

    def note(number: int) -> None:
        ran[number] += 1

    dramatiq.set_broker(broker)
    task(name="note")(note)
    dramatiq.set_broker(sender)
    sending = task(name="note")(note)
    run_worker(broker, slots=4)
    sending.send(-1)
    proxy.drop_replies(0.02, seed=7)
    for number in range(600):
        sending.send(number)
    assert proxy.lost_replies >= 5
    proxy.heal()
    eventually(lambda: len(ran) == 601)
    keys = broker.store.service("default")
    eventually(lambda: broker.client.hlen(keys.jobs) == 0)
    assert [number for number, times in ran.items() if times != 1] == []
