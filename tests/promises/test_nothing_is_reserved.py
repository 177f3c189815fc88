"""Nothing is reserved that cannot run: no job waits in a worker's memory while another worker is idle."""

from __future__ import annotations

import threading

import fourlane
from fourlane.job import State
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import task
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.worker.gates import Gate, declare
from tests.worker.gates import gate as gate
from tests.workers import Workers


def test_a_full_worker_hears_and_passes_on_what_it_cannot_take(
    redis_url: str, broker: RedisBroker, run_worker: RunWorker, gate: Gate
) -> None:
    bulk, urgent = declare(gate, "bulk", "P2"), declare(gate, "urgent", "P0")
    run_worker(broker, "bulk", "urgent", slots=1)
    bulk.send_many([["bulk"]] * 5)
    eventually(lambda: gate.begun == ["bulk"])
    urgent.send("urgent")
    other = Gate()
    second = RedisBroker(url=redis_url, namespace=broker.store.namespace)
    fourlane.task(name="urgent-P0", service="urgent", tier="P0", broker=second)(other.run)
    run_worker(second, "urgent", slots=1)
    eventually(lambda: other.begun == ["urgent"])
    other.let.release()
    urgent.send("again")  # the idle one takes it, whoever hears of it first
    eventually(lambda: other.begun == ["urgent", "again"])
    other.let.release()


def test_two_workers_share(broker: RedisBroker, run_worker: RunWorker) -> None:
    who: dict[str, int] = {}
    both = threading.Barrier(2, timeout=10)

    @task(max_retries=0, result_ttl_ms=60_000)
    def meet() -> None:
        name = threading.current_thread().name
        who[name] = who.get(name, 0) + 1
        both.wait()

    run_worker(broker, slots=1)
    run_worker(broker, slots=1)
    for sent in meet.send_many([[]] * 10):
        sent.result(10)


def test_nothing_is_kept_behind_a_slow_job(broker: RedisBroker, run_worker: RunWorker, gate: Gate) -> None:
    """A worker that was fast has leased ahead; one slow job must not hold what it leased."""
    done: list[int] = []

    @task
    def quick(number: int) -> None:
        done.append(number)

    @task
    def slow() -> None:
        gate.run("slow")

    run_worker(broker, slots=1)
    quick.send_many([[n] for n in range(2000)])
    slow.send()
    quick.send_many([[n] for n in range(2000, 2400)])
    eventually(lambda: gate.begun == ["slow"])
    assert len(done) == 2000
    run_worker(broker, slots=1)
    eventually(lambda: len(done) == 2400)


def test_an_idle_process_gets_what_a_busy_one_of_another_worker_cannot_run(workers: Workers) -> None:
    """Two workers of two processes serve two services; a held job takes all slots but the last one."""
    module = workers.several("one", "two")
    for _ in range(2):
        workers.start("--slots", "1", "--processes", "2", module=module)
    names = ("one-a", "two-a", "one-b")
    for name in names:
        for number in range(100):  # short ones before it: as much is leased ahead as can be
            workers.send(f"quick_{name[:3]}", f"{name}{number}", service=name[:3])
        workers.send(f"hold_{name[:3]}", name, service=name[:3])
    eventually(lambda: all(workers.said("begun", name) for name in names))
    last = [workers.send(f"quick_{service}", f"{service}-last", service=service) for service in ("one", "two")]
    eventually(lambda: all(workers.is_done(f"{name}{number}") for name in names for number in range(100)))
    eventually(lambda: all(sent.status() is State.UNKNOWN for sent in last))
    held = [workers.said("begun", name)[0] for name in names]
    assert len(set(held)) == 3
    assert not {*workers.said("done", "one-last"), *workers.said("done", "two-last")} & set(held)
