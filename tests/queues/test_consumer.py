"""The consumer that dramatiq's own Worker uses: settled at once, and a dead one's jobs are back in seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import dramatiq
import pytest
from dramatiq.broker import Consumer, MessageProxy

from fourlane.errors import RedisUnavailable
from fourlane.queues.broker import RedisBroker
from fourlane.queues.consumer import LeaseConsumer
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
    assert max(took) < 0.1
    waiter.join()
    assert consumer.held == set()


def test_a_place_that_is_freed_is_taken_at_once(work: dramatiq.Actor[[], None], consumer: LeaseConsumer) -> None:
    for _ in range(5):
        work.send()
    taken = [take(consumer) for _ in range(4)]
    threading.Timer(0.05, consumer.ack, (taken[0],)).start()
    began = time.monotonic()
    taken.append(take(consumer))
    assert time.monotonic() - began < 0.5
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
        proxy.drop_next_reply(b"bk")
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
