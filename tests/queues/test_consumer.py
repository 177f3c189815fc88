"""The consumer that dramatiq's own Worker uses: settled at once, and a dead one's jobs are back in seconds."""

from __future__ import annotations

import ctypes
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import dramatiq
import pytest
from dramatiq.broker import Consumer, MessageProxy

from fourlane.errors import RedisUnavailable
from fourlane.queues import control
from fourlane.queues.broker import RedisBroker
from fourlane.queues.consumer import LeaseConsumer
from fourlane.queues.consumer import consumer as consumers
from fourlane.queues.dramatiq_errors import BrokerUnavailable
from tests.proxy import FaultyProxy
from tests.servers import eventually


@pytest.fixture
def work(broker: RedisBroker) -> dramatiq.Actor[[], None]:
    @dramatiq.actor
    def work() -> None: ...

    return work


@pytest.fixture
def consumer(broker: RedisBroker, work: dramatiq.Actor[[], None]) -> Iterator[LeaseConsumer]:
    made = broker.consume("default", prefetch=4, timeout=2_000)
    assert isinstance(made, LeaseConsumer)
    yield made
    made.close()


def take(consumer: Consumer, seconds: float = 5) -> MessageProxy:
    """Its next message."""
    return eventually(lambda: next(consumer), seconds)


def test_it_settles_while_it_waits(
    broker: RedisBroker, work: dramatiq.Actor[[], None], consumer: LeaseConsumer
) -> None:
    sent = [work.send() for _ in range(4)]
    taken = [take(consumer) for _ in sent]
    consumer.ack(taken.pop())
    waiter = threading.Thread(target=next, args=(consumer,))
    waiter.start()
    took: list[float] = []
    for message in taken:
        began = time.monotonic()
        consumer.ack(message)
        took.append(time.monotonic() - began)
    assert waiter.is_alive()
    assert max(took) < 0.5  # a wait lasts 1 s
    waiter.join()
    assert consumer.holding.held == set()


def test_a_place_that_is_freed_is_taken_at_once(work: dramatiq.Actor[[], None], consumer: LeaseConsumer) -> None:
    for _ in range(5):
        work.send()
    taken = [take(consumer) for _ in range(4)]
    threading.Timer(0.05, consumer.ack, (taken[0],)).start()
    began = time.monotonic()
    taken.append(take(consumer))
    assert time.monotonic() - began < 0.9  # likewise
    for message in taken[1:]:
        consumer.ack(message)


def test_the_jobs_of_one_that_died_are_back_in_seconds(
    broker: RedisBroker, work: dramatiq.Actor[[], None], consumer: LeaseConsumer
) -> None:
    sent = work.send()
    dead = broker.consume("default", timeout=100)
    assert isinstance(dead, LeaseConsumer)
    assert take(dead).message_id == sent.message_id
    dead.closed.set()  # it does not beat any more, and has not left
    began = time.monotonic()
    again = take(consumer, 9)
    assert again.message_id == sent.message_id
    assert time.monotonic() - began < 8
    consumer.ack(again)
    dead.close()


def test_a_reply_that_is_lost(
    broker: RedisBroker, work: dramatiq.Actor[[], None], redis_url: str, namespace: str
) -> None:
    """What it was given and never heard of runs too, and what it settled is settled once."""
    parts = urlsplit(redis_url)
    assert parts.hostname
    assert parts.port
    with FaultyProxy(parts.hostname, parts.port) as proxy:
        through = RedisBroker(url=proxy.url(redis_url), namespace=namespace)
        through.actors["work"] = work
        through.declare_queue("default")
        consumer = through.consume("default", prefetch=2, timeout=100)
        assert isinstance(consumer, LeaseConsumer)
        first, second = work.send(), work.send()
        proxy.drop_next_reply(b"beat look")
        assert next(consumer) is None
        proxy.wait_dropped()
        taken = [take(consumer), take(consumer)]
        assert {message.message_id for message in taken} == {first.message_id, second.message_id}
        proxy.drop_next_reply(first.message_id.encode())
        done = next(message for message in taken if message.message_id == first.message_id)
        with pytest.raises(RedisUnavailable):
            consumer.ack(done)
        consumer.ack(done)
        consumer.ack(next(message for message in taken if message is not done))
        broker.join("default", timeout=2_000)
        consumer.close()
        through.close()


# What Redis refuses, and what breaks ----------------------------------------------------------------------------------


@pytest.fixture
def keys(broker: RedisBroker) -> Any:
    return broker.store.service("default")


@pytest.fixture
def through(
    broker: RedisBroker, work: dramatiq.Actor[[], None], proxy: FaultyProxy, redis_url: str, namespace: str
) -> Iterator[RedisBroker]:
    """A broker whose consumers go by way of the proxy."""
    made = RedisBroker(url=proxy.url(redis_url), namespace=namespace)
    made.actors["work"] = work
    made.declare_queue("default")
    yield made
    made.close()


def fail(message: MessageProxy, error: Exception) -> MessageProxy:
    message.stuff_exception(error)  # type: ignore[no-untyped-call]
    message.fail()  # type: ignore[no-untyped-call]
    return message


def test_an_end_that_redis_refuses_in_every_way_is_tried_again(
    broker: RedisBroker, work: dramatiq.Actor[[], None], consumer: LeaseConsumer, keys: Any
) -> None:
    work.send()
    message = fail(take(consumer), ValueError("boom"))
    broker.client.set(keys.cancels, "x")
    with pytest.raises(RedisUnavailable, match="refused how job"):
        consumer.nack(message)
    assert (broker.client.zcard(keys.dead[1]), broker.client.llen(keys.ready[1])) == (0, 0)
    broker.client.delete(keys.cancels)
    consumer.nack(message)
    assert (broker.client.zcard(keys.dead[1]), broker.client.hvals(keys.reasons)) == (1, [b"error\nValueError: boom"])


@pytest.mark.parametrize("known", [True, False], ids=["from the start", "learned"])
def test_places_under_a_limit_are_given_back(
    broker: RedisBroker, work: dramatiq.Actor[[], None], consumer: LeaseConsumer, keys: Any, known: bool
) -> None:
    for _ in range(6):
        work.send()
    if known:
        control.set_limit(broker.store, broker.queue_of("default"), concurrency=2)
    taken = [take(consumer) for _ in range(2 if known else 4)]
    if not known:
        broker.client.hset(keys.jobs, "!", b'{"1":{"concurrency":2}}')  # nobody has counted those that run
    for message in taken:
        consumer.ack(message)
    rest = 6 - len(taken)
    while rest:
        consumer.ack(take(consumer))
        rest -= 1
    assert not broker.client.exists(keys.slots[1])


def test_others_are_not_lost_beside_one_that_cannot_be_settled(
    broker: RedisBroker, work: dramatiq.Actor[[], None], consumer: LeaseConsumer, keys: Any
) -> None:
    broker.store.enqueue_new("default", 1, [b"unreadable"], int(time.time() * 1000))
    sent = work.send()
    broker.client.set(keys.cancels, "x")
    message = take(consumer)
    assert message.message_id == sent.message_id
    broker.client.delete(keys.cancels)
    consumer.ack(message)
    work.send()
    consumer.ack(take(consumer))
    assert broker.client.zcard(keys.dead[1]) == 1
    assert consumer.holding.held == set()


def test_what_was_never_received_is_taken_though_giving_it_back_failed(
    through: RedisBroker, work: dramatiq.Actor[[], None], proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = through.consume("default", prefetch=2, timeout=100)
    real = through.store.held

    def held(*args: Any) -> Any:
        found = real(*args)
        monkeypatch.undo()
        proxy.refuse()
        proxy.cut()
        return found

    work.send()
    proxy.drop_next_reply(b"beat look")
    assert next(consumer) is None
    proxy.wait_dropped()
    monkeypatch.setattr(through.store, "held", held)
    assert next(consumer) is None
    proxy.accept()
    consumer.ack(take(consumer))
    consumer.close()


def test_it_asks_another_node_though_it_has_no_room_to_lease(
    through: RedisBroker,
    work: dramatiq.Actor[[], None],
    proxy: FaultyProxy,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = through.consume("default", prefetch=1, timeout=100)
    work.send()
    message = take(consumer)
    find, port = socket.getaddrinfo, urlsplit(redis_url).port  # as after a failover
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, _, *more: find(host, port, *more))
    proxy.refuse()
    proxy.cut()
    with pytest.raises(BrokerUnavailable):  # dramatiq's Worker tries it again
        consumer.ack(message)
    consumer.ack(message)
    through.join("default", timeout=2_000)
    consumer.close()


@pytest.mark.parametrize("how", ["text", "options"])
def test_an_end_that_cannot_be_written_is_a_dead_letter(
    broker: RedisBroker, work: dramatiq.Actor[[], None], consumer: LeaseConsumer, keys: Any, how: str
) -> None:
    work.send()
    message = take(consumer)
    assert isinstance(message, consumers.LeasedMessage)
    if how == "text":
        consumer.nack(fail(message, OSError("bad \udc80")))
    else:
        message.enqueued_again = (message.copy(options={"retries": "many", "odd": "\udc80"}), 1)
        consumer.ack(message)
    assert consumer.holding.held == set()
    (reason,) = broker.client.hvals(keys.reasons)
    assert reason.startswith(b"error\n" + (b"OSError: bad \\udc80" if how == "text" else b"ValueError"))


def test_an_interrupt_amid_a_reply_ends_the_connection_and_its_calls(broker: RedisBroker, namespace: str) -> None:
    link = broker.store.connector.open(namespace.encode())
    before, _ = link.next_call(b"sent:")
    ended = threading.Event()

    def wait() -> None:
        try:
            link.command("BLPOP", namespace + "none", "0.3")
        except KeyboardInterrupt:
            ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    waits = lambda: any(client["cmd"] == "blpop" for client in broker.client.client_list())  # noqa: E731
    eventually(waits)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(KeyboardInterrupt))
    thread.join()
    assert ended.is_set()
    assert link.command("ECHO", "own") == b"own"
    assert link.next_call(b"sent:")[0][:-1] != before[:-1]
    link.close()


def test_an_interrupted_turn_is_looked_into(
    work: dramatiq.Actor[[], None], consumer: LeaseConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dramatiq interrupts its threads: what the turn did is then not known."""

    def interrupted() -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    work.send()
    monkeypatch.setattr(consumer.holding.link.connection, "read_response", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(consumer)
    consumer.ack(take(consumer))


def test_it_beats_on_after_an_error_of_its_own(
    broker: RedisBroker, work: dramatiq.Actor[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = broker.store.beat
    calls: list[Any] = []

    def beat(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 1:
            raise ValueError("odd")
        return real(*args)

    monkeypatch.setattr(consumers, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(broker.store, "beat", beat)
    consumer = broker.consume("default", timeout=500)
    work.send()
    message = take(consumer)
    eventually(lambda: len(calls) > 2)
    consumer.ack(message)
    consumer.close()


def test_what_it_did_is_counted(broker: RedisBroker, work: dramatiq.Actor[[], None], keys: Any) -> None:
    consumer = broker.consume("default", timeout=500)
    for _ in range(3):
        work.send()
        consumer.ack(take(consumer))
    consumer.close()
    assert broker.client.hget(keys.stats, "done:1") == b"3"
