"""Redis restarts, leases taken away, Redis gone: nothing is lost, and late owners change nothing."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from fourlane.errors import RedisUnavailable
from fourlane.job import State
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import task
from tests.servers import Server
from tests.worker.conftest import RunWorker, run_worker
from tests.workers import eventually

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
    assert some.wait(10)
    getattr(redis_server, how)()
    assert len(ran) < 600
    redis_server.start()
    eventually(lambda: len(ran) == 600, 15)
    keys = own_broker.store.service("default")
    eventually(lambda: own_broker.client.hlen(keys.jobs) == 0, 10)
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
    eventually(lambda: len(ran) == 50, 10)
    eventually(lambda: own_broker.client.hlen(own_broker.store.service("default").jobs) == 0)


def test_a_late_finish_is_refused_and_the_job_runs_again(
    own_broker: RedisBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    gates = [threading.Event(), threading.Event()]
    begun: list[str] = []

    @task(result_ttl_ms=60_000)
    def hold() -> str:
        turn = len(begun)
        begun.append(threading.current_thread().name)
        gates[turn].wait(20)
        return f"run {turn}"

    run_worker(own_broker, name="first", slots=2)
    sent = hold.send()
    eventually(lambda: len(begun) == 1)
    entry = next(iter(own_broker.store.held("default", "first.0")))
    back, poisoned = own_broker.store.reclaim("default", "first.0", "the test says it died", begun=[entry])
    assert (back, poisoned) == (1, [])
    eventually(lambda: len(begun) == 2)
    gates[0].set()
    eventually(lambda: f"stale job={sent.id}" in caplog.text)
    assert sent.status() is State.RUNNING
    gates[1].set()
    assert sent.result(5) == "run 1"
    assert len(begun) == 2


def test_enqueue_without_redis_fails_soon(redis_server: Server, own_broker: RedisBroker) -> None:
    @task
    def note() -> None: ...

    redis_server.config("SET", "appendfsync", "always")
    kept = note.send()
    redis_server.kill()
    started = time.monotonic()
    with pytest.raises(RedisUnavailable):
        note.send()
    with pytest.raises(RedisUnavailable):
        note.send_many([[], []])
    with pytest.raises(RedisUnavailable):
        note.send_with_options(delay=1000)
    assert time.monotonic() - started < 3
    redis_server.start()
    assert kept.status() is State.READY
    note.send()


def test_a_worker_that_stops_while_redis_is_away_says_so_once(
    redis_server: Server, own_broker: RedisBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """And not for each of its services, while each try lasts seconds."""
    loop = run_worker(own_broker, "one", "two", "three")
    eventually(lambda: loop.turned_at > 0)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "loop-0")
    redis_server.kill()
    loop.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert caplog.text.count("its jobs come back when its silence is noticed") == 1
