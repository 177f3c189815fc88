"""What is done is counted, also by a worker that stops or is never idle."""

from __future__ import annotations

import fourlane
from fourlane.queues.broker import RedisBroker
from tests.servers import eventually
from tests.worker.conftest import RunWorker


def test_a_stop_loses_no_count(broker: RedisBroker, run_worker: RunWorker) -> None:
    done: list[int] = []
    task = fourlane.task(name="counted", tier="P1")(done.append)
    loop = run_worker(broker, "default", "other")
    stats = broker.store.service("default").stats
    task.send_many([[n] for n in range(300)])
    eventually(lambda: len(done) == 300)
    loop.stop()
    eventually(lambda: int(broker.client.hget(stats, "done:1") or 0) == 300)


def test_what_is_done_is_counted_while_there_is_always_a_little_to_do(
    broker: RedisBroker, run_worker: RunWorker
) -> None:
    """Its worker may die before it is idle, and looks."""
    done: list[int] = []
    task = fourlane.task(name="counted", tier="P1")(done.append)
    run_worker(broker, "default", "other")
    stats = broker.store.service("default").stats

    def counted() -> int:
        task.send(len(done))
        return int(broker.client.hget(stats, "done:1") or 0)

    eventually(counted, interval=0.05)
    eventually(lambda: counted() > len(done) - 60, interval=0.05)  # those of some two seconds are not
