"""The same engine on three real cluster nodes: every key is declared and hash-tagged."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import dramatiq
import pytest
import redis

import fourlane
from fourlane.names import Queue, Tier
from fourlane.queues import browse, control, dead_letters
from fourlane.queues.broker import RedisBroker
from fourlane.queues.guards import Bound, Budgets, PaidCall
from fourlane.worker.loop.loop import Loop
from tests.command import Command
from tests.command import command as command
from tests.servers import eventually

SERVICES = ("alpha", "beta", "gamma", "delta")


@pytest.fixture
def broker(cluster_urls: list[str]) -> Iterator[RedisBroker]:
    broker = RedisBroker(client=redis.RedisCluster.from_url(cluster_urls[0]), namespace="cluster")
    before = dramatiq.broker.global_broker
    dramatiq.set_broker(broker)
    yield broker
    dramatiq.broker.global_broker = before
    broker.close()


def test_services_on_all_nodes_are_served_by_one_loop(broker: RedisBroker) -> None:
    tasks = {}
    for service in SERVICES:

        @fourlane.task(name=f"add-{service}", service=service, result_ttl_ms=60_000, max_retries=0)
        def add(a: int, b: int) -> int:
            return a + b

        tasks[service] = add
    loop = Loop(broker, [Queue(service, tier) for service in SERVICES for tier in Tier], name="worker", slots=4)
    broker.on_declared = loop.told_declared
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        jobs = [(n, task.send(n, 1)) for n in range(10) for task in tasks.values()]
        jobs += [
            (n, job) for task in tasks.values() for n, job in enumerate(task.send_many([[n, 1] for n in range(50)]))
        ]
        late = [task.send_with_options(args=[5, 5], delay=50) for task in tasks.values()]
        assert [job.result(20) for _, job in jobs] == [n + 1 for n, _ in jobs]
        assert [job.result(20) for job in late] == [10] * len(SERVICES)

        failed = tasks["alpha"].send("a", 1)
        eventually(lambda: failed.status() is fourlane.State.DEAD)
        assert dead_letters.count(broker.store) == 1
        assert dead_letters.replay(broker.store, [failed.id]) == 1
        eventually(lambda: dead_letters.count(broker.store) == 1)

        control.pause(broker.store, "jobs.normal.beta")
        waiting = tasks["beta"].send(1, 1)
        assert {queue.name for queue in browse.queues(broker.store) if queue.paused} == {"local.jobs.normal.beta"}
        control.resume(broker.store, "jobs.normal.beta")
        assert waiting.result(10) == 2

        later = fourlane.task(name="later", service="epsilon", result_ttl_ms=60_000)(lambda: "declared later")
        assert later.send().result(10) == "declared later"
    finally:
        loop.stop()
        thread.join(10)


def test_the_commands_work_on_a_cluster_that_the_url_names(command: Command, cluster_urls: list[str]) -> None:
    module = command.module("shop", SHOP)
    told = command("worker", module, REDIS_URL=cluster_urls[0])
    assert told.returncode == 1
    assert "redis://HOST:PORT/0?cluster=true" in told.stderr.splitlines()[-1]
    url = f"{cluster_urls[0]}?cluster=true"
    log = command.folder / "log"
    with log.open("wb") as out:
        worker = command.start("worker", module, "--scheduler", url=url, stderr=out)
    for service in ("one", "two", "three"):
        assert command("enqueue", f"note-{service}", "5", "--module", module, REDIS_URL=url).returncode == 0
    ledger = command.folder / "ledger"
    eventually(lambda: ledger.exists() and set(ledger.read_text().split()) == {"one", "two", "three"})
    shown = command("queues", "--json", REDIS_URL=url)
    assert shown.returncode == 0
    assert all(f'"local.jobs.normal.{service}"' in shown.stdout for service in ("one", "two", "three"))
    worker.terminate()
    assert worker.wait(20) == 0


SHOP = """
import fourlane
for service in ("one", "two", "three"):
    @fourlane.task(name=f"note-{service}", service=service)
    def note(number, service=service):
        with open("ledger", "a") as ledger:
            ledger.write(service + " ")
"""


def test_budgets_of_several_tenants_and_of_all_are_asked_at_once(broker: RedisBroker) -> None:
    budgets, bounds = Budgets(broker.store), [Bound(0, "", 100, 80), Bound(3, "", 150, 120)]
    calls = [PaidCall(f"c{number}", f"tenant{number}", "2026-11-28", "t", "p/m") for number in range(3)]
    assert [budgets.reserve(call, 60, bounds).over for call in calls] == [None, None, 1]
    assert budgets.settle(calls[0], 10)
    assert budgets.reserve(calls[2], 60, bounds).over is None
    assert budgets.sweep(2**50) == 2
    assert (budgets.look("", "2026-11-28").spent, budgets.look("", "2026-11-28").held) == (10, {"": 0})
