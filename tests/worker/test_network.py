"""Faults between worker and Redis, and a tier that waits past its target."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import dramatiq
import dramatiq.broker
import pytest

import fourlane
from fourlane import codec, job
from fourlane.queues.broker import RedisBroker
from fourlane.queues.store import Store, Turn
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


def test_jobs_of_a_lost_reply_come_back_when_the_server_stays_away_for_a_while(
    behind: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    """Redis leased them to this worker, which never heard of it, and the first question what it holds fails too."""
    ran: list[int] = []

    @fourlane.task
    def noted(number: int) -> None:
        ran.append(number)

    noted.send_many([[number] for number in range(20)])
    proxy.drop_next_reply(containing=b"EVALSHA")
    loop = run_worker(behind, slots=2)
    proxy.wait_dropped()
    proxy.refuse()
    eventually(lambda: loop._failures >= 3, 10)
    proxy.accept()
    eventually(lambda: set(ran) == set(range(20)), 15)


def test_a_wait_that_cannot_be_armed_is_armed_again(
    behind: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes away between a worker's turn and its wait: it must not sleep deaf to every token."""
    turn, gone = Store.turn, threading.Event()

    def turn_then_gone(store: Store, *args: Any, **options: Any) -> Turn:
        told = turn(store, *args, **options)
        if not gone.is_set():
            proxy.refuse()
            proxy.cut()
            gone.set()
        return told

    monkeypatch.setattr(Store, "turn", turn_then_gone)
    ran: list[bool] = []

    @fourlane.task
    def noted() -> None:
        ran.append(True)

    loop = run_worker(behind)
    assert gone.wait(5)
    eventually(lambda: loop._failures > 0)
    proxy.accept()
    noted.send()
    eventually(lambda: ran == [True], 8)
