"""Faults between worker and Redis, and a tier that waits past its target."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import dramatiq
import dramatiq.broker
import pytest

import fourlane
from fourlane import codec, job
from fourlane.queues.broker import RedisBroker
from tests.proxy import FaultyProxy
from tests.servers import eventually
from tests.worker.conftest import RunWorker


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultyProxy]:
    parts = urlsplit(redis_url)
    with FaultyProxy(parts.hostname or "127.0.0.1", parts.port or 6379) as proxy:
        yield proxy


@pytest.fixture
def behind(proxy: FaultyProxy, redis_url: str, namespace: str) -> Iterator[RedisBroker]:
    """A broker whose every connection goes through the proxy."""
    before = dramatiq.broker.global_broker
    broker = RedisBroker(url=proxy.url(redis_url), namespace=namespace)
    dramatiq.set_broker(broker)
    yield broker
    broker.close()
    dramatiq.broker.global_broker = before


def test_an_enqueue_whose_reply_is_lost_is_one_job(behind: RedisBroker, proxy: FaultyProxy) -> None:
    @fourlane.task
    def noted() -> None: ...

    noted.send()
    proxy.drop_next_reply(containing=b"EVALSHA")
    noted.send()
    key = behind.store.service("default").ready[1]
    assert behind.store.connector.command(key, "LLEN", key) == 2


def test_a_turn_whose_reply_is_lost_loses_nothing(
    behind: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    ran: list[int] = []

    @fourlane.task
    def noted(number: int) -> None:
        ran.append(number)

    noted.send_many([[number] for number in range(20)])
    proxy.drop_next_reply(containing=b"EVALSHA")
    run_worker(behind, slots=2)
    proxy.wait_dropped()
    eventually(lambda: set(ran) == set(range(20)), 15)
    behind.join("default", timeout=10_000)


def test_connections_cut_again_and_again_lose_nothing(
    behind: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    ran: list[int] = []

    @fourlane.task
    def noted(number: int) -> None:
        ran.append(number)

    run_worker(behind, slots=2)
    for number in range(30):
        if number % 10 == 5:
            proxy.cut()
        noted.send(number)
    eventually(lambda: set(ran) == set(range(30)), 20)


def test_a_tier_past_its_target_gets_a_share(broker: RedisBroker, run_worker: RunWorker) -> None:
    order: list[str] = []

    @fourlane.task(tier="P0")
    def high() -> None:
        order.append("high")
        time.sleep(0.02)

    @fourlane.task(tier="P2")
    def low() -> None:
        order.append("low")

    # A job whose id says that it waits for two minutes; P2's target is one.
    old = job.new_id(2, int(time.time() * 1000) - 120_000)
    broker.store.enqueue("default", 2, (old, codec.encode("low")))
    high.send_many([[]] * 150)
    run_worker(broker, slots=1)
    eventually(lambda: "low" in order, 15)
    assert order.count("high") < 150, "it had to wait for all of the higher tier"
