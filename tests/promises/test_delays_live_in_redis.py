"""Delays live in Redis: they cost a worker nothing, outlive it, and are over in time, for whoever is there then."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from fourlane import codec
from fourlane.job import State, new_id
from fourlane.queues.store import Delayed
from tests.workers import Workers, eventually

MANY = 20_000


def memory_of(pid: int) -> int:
    """Kilobytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_a_backlog_of_delayed_jobs_costs_nothing_and_outlives_its_worker(workers: Workers) -> None:
    """Two services with work to do in every tier; of their delayed jobs some are due after the first worker died."""
    module = workers.several("one", "two")
    first = workers.start("--slots", "2", module=module)
    store, client = workers.broker.store, workers.broker.client

    def work(name: str) -> None:
        for number in range(100):
            for service in ("one", "two"):
                workers.send(f"quick_{service}", f"{name}{number}", service=service, tier=number % 4)
        eventually(lambda: all(workers.is_done(f"{name}{number}", 2) for number in range(100)))

    work("before")
    (pid,) = workers.children(first)
    before = memory_of(pid)
    now = store.clock.now_ms()
    for service in ("one", "two"):
        body = codec.encode(f"quick_{service}", ["never"])
        store.delay(service, [Delayed(new_id(n % 4, now), body, 3_600_000) for n in range(MANY // 2)])
    work("after")
    assert memory_of(pid) - before < 8_000
    soon = [
        workers.send(f"quick_{service}", f"soon{tier}", service=service, tier=tier, delay_ms=1_500)
        for service in ("one", "two")
        for tier in range(4)
    ]
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(10)
    assert {sent.status() for sent in soon} == {State.DELAYED}
    second = workers.start("--slots", "2", module=module)
    # Sooner than the silence of the first is noticed: the dead one had none of them.
    eventually(lambda: all(workers.is_done(f"soon{tier}", 2) for tier in range(4)), 4)
    assert sum(client.zcard(store.service(service).delayed) for service in ("one", "two")) == MANY
    assert workers.said("done", "never") == []
    assert "reclaimed" not in workers.log(second)
