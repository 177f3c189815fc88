"""Accepted is kept: once a call returned an id, the job is done, waits, runs, is dead or cancelled; never gone."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

import fourlane
from fourlane.job import State
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import task
from tests.proxy import FaultyProxy
from tests.servers import Server, eventually
from tests.worker.conftest import RunWorker, run_worker

__all__ = ["run_worker"]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_of_redis_loses_nothing(
    redis_server: Server, own_broker: RedisBroker, run_worker: RunWorker, how: str
) -> None:
    redis_server.config("SET", "appendfsync", "always")
    ran: Counter[int] = Counter()
    some = threading.Event()

    @task
    def note(number: int) -> None:
        time.sleep(0.002)  # the work
        ran[number] += 1
        if len(ran) >= 100:
            some.set()

    note.send_many([[number] for number in range(600)])
    run_worker(own_broker, slots=4)
    assert some.wait(30)
    getattr(redis_server, how)()
    assert len(ran) < 600
    redis_server.start()
    eventually(lambda: len(ran) == 600)
    keys = own_broker.store.service("default")
    eventually(lambda: own_broker.client.hlen(keys.jobs) == 0)
    # What ran while the reply was lost may have run twice, no more than a worker holds.
    assert sum(ran.values()) - 600 < 100
    late = note.send(1000)
    eventually(lambda: late.status() is State.UNKNOWN)
    assert ran[1000] == 1


def test_a_redis_that_hangs_loses_nothing(redis_server: Server, own_broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: Counter[int] = Counter()

    @task
    def note(number: int) -> None:
        ran[number] += 1

    loop = run_worker(own_broker, slots=2)
    note.send(0)
    eventually(lambda: ran[0] == 1)
    note.send_many([[number] for number in range(1, 50)])
    redis_server.pause()
    assert not loop.stopping
    threading.Timer(1.0, redis_server.resume).start()
    eventually(lambda: len(ran) == 50)
    eventually(lambda: own_broker.client.hlen(own_broker.store.service("default").jobs) == 0)


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


def test_a_turn_into_a_black_hole_loses_nothing(
    impatient: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker, broker: RedisBroker
) -> None:
    """The jobs' ends fall into the hole; after it they are settled, or run again by who watches."""
    ran: list[int] = []
    running, gate = threading.Event(), threading.Event()

    def note(number: int) -> None:
        ran.append(number)
        if number == 0:
            running.set()
            gate.wait(10)

    noted = fourlane.task(broker=impatient, name="noted")(note)
    noted.send_many([[number] for number in range(20)])
    loop = run_worker(impatient, slots=1)
    assert running.wait(30)
    proxy.blackhole()
    gate.set()
    eventually(lambda: loop.recovery.failures >= 2)
    proxy.heal()
    eventually(lambda: set(ran) == set(range(20)))
    impatient.join("default", timeout=10_000)
    assert len(ran) == 20, "nothing ran twice: no lease had run out"
