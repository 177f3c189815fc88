"""One bad job harms nobody else: unreadable, unknown or deadly, it is parked or a dead letter, and the others go on."""

from __future__ import annotations

import time

import pytest

import fourlane
from fourlane import codec, job
from fourlane.job import State
from fourlane.names import Queue, Tier
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import EnqueuedJob, task
from tests.worker.conftest import RunWorker
from tests.worker.ends import dead
from tests.workers import Workers, eventually


def test_a_task_that_kills_its_process_is_poison(workers: Workers) -> None:
    workers.start("--slots", "4")
    poison = workers.send("kill", "p")
    beside = [workers.send("quick", f"q{number}") for number in range(20)]
    eventually(lambda: poison.status() is State.DEAD, 20)
    info = poison.info()
    assert (info.reason, info.crashes) == ("poison", 3)  # twice beside others, then alone
    assert "SIGKILL" in info.detail
    assert len(workers.said("begun", "p")) == info.crashes
    eventually(lambda: all(workers.said("done", f"q{number}") for number in range(20)), 20)
    eventually(lambda: all(s.status() is State.UNKNOWN for s in beside))


def test_innocents_beside_killers_of_several_services_are_no_poison(workers: Workers) -> None:
    services = ("one", "two", "three")
    (workers.folder / "several.py").write_text(
        "from held_tasks import *\nimport asyncio\n\n"
        "async def wait(name):\n    say('begun', name)\n    await asyncio.sleep(3)\n    say('done', name)\n\n"
        "def shoot(name):\n    os.kill(os.getpid(), signal.SIGKILL)\n\n"
        f"for service in {services}:\n"
        "    fourlane.task(wait, service=service, name=f'wait_{service}')\n"
        "    fourlane.task(shoot, service=service, name=f'shoot_{service}')\n"
    )
    workers.start("--slots", "4", "--processes", "2", module="several", FOURLANE_CRASH_LIMIT="2")
    waiting = [workers.send(f"wait_{service}", f"{service}{n}", service=service) for service in services for n in "ab"]
    killers = [workers.send(f"shoot_{service}", service, service=service) for service in services]
    eventually(lambda: all(killer.status() is State.DEAD for killer in killers), 40)
    assert [killer.info().reason for killer in killers] == ["poison"] * 3
    eventually(lambda: all(job.status() is State.UNKNOWN for job in waiting), 40)  # done
    assert all(len(workers.said("done", f"{service}{n}")) == 1 for service in services for n in "ab")


def test_killers_that_take_their_time_are_told_from_long_jobs(workers: Workers) -> None:
    """Two workers side by side, of one process and of two; each has a killer, and a job that runs until it is dead."""
    places = {"one": ("alone", "alone2"), "two": ("pair", "pair2")}
    (workers.folder / "slow.py").write_text(
        "from held_tasks import *\nimport asyncio\n\n"
        "async def wait(name):\n"
        "    while not db.exists(f'{me}:gate:{name}'):\n        await asyncio.sleep(0.1)\n    say('done', name)\n\n"
        "def shoot(name):\n    say('begun', name)\n    time.sleep(2)\n    os.kill(os.getpid(), signal.SIGKILL)\n\n"
        "async def ashoot(name):\n    say('begun', name)\n    await asyncio.sleep(2)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n\n"
        f"for service in {sum(places.values(), ())}:\n"
        "    for function in (hold.fn, wait, shoot, ashoot):\n"
        "        fourlane.task(function, service=service, name=f'{function.__name__}_{service}')\n"
    )
    innocents, killers = [], []
    for processes, services, kills, wait in ((1, places["one"], "shoot", "hold"), (2, places["two"], "ashoot", "wait")):
        served = [word for service in services for word in ("--services", service)]
        workers.start("--processes", str(processes), *served, module="slow", FOURLANE_CRASH_LIMIT="2")
        innocents.append(workers.send(f"{wait}_{services[1]}", services[1], service=services[1]))
        killers.append(workers.send(f"{kills}_{services[0]}", kills, service=services[0]))
    eventually(lambda: all(killer.status() is State.DEAD for killer in killers), 80)
    assert [killer.info().reason for killer in killers] == ["poison"] * 2
    assert all(len(workers.said("begun", task)) <= 14 for task in ("shoot", "ashoot"))
    assert {innocent.info().attempts for innocent in innocents} == {0}
    names = [services[1] for services in places.values()]
    for name in names:
        workers.open_gate(name)
    eventually(lambda: all(innocent.status() is State.UNKNOWN for innocent in innocents), 40)
    assert all(len(workers.said("done", name)) == 1 for name in names)


def test_jobs_that_kill_their_process_hold_up_no_others(workers: Workers) -> None:
    """Each is a dead letter soon; a pause after each death would make all the others wait."""
    supervisor = workers.start("--slots", "1", FOURLANE_CRASH_LIMIT="1")
    killers = []
    for number in range(4):
        killers.append(workers.send("kill", f"k{number}"))
        for good in range(50):
            workers.send("quick", f"q{number}-{good}")
    eventually(lambda: workers.broker.client.hlen(workers.broker.store.service("default").jobs) == 4, 20)
    assert [sent.info().reason for sent in killers] == ["poison"] * 4
    assert all(workers.said("done", f"q{number}-{good}") for number in range(4) for good in range(50))
    assert workers.log(supervisor).count("killed by SIGKILL (") <= 4
    assert "next start in" not in workers.log(supervisor)


def test_unreadable_and_unknown_jobs_do_not_stop_the_batch(broker: RedisBroker, run_worker: RunWorker) -> None:
    @task(result_ttl_ms=60_000)
    def good(number: int) -> int:
        return number

    now = int(time.time() * 1000)
    unreadable, unknown = job.new_id(1, now), job.new_id(1, now)
    first = good.send(1)
    broker.store.enqueue("default", 1, (unreadable, b"\xff{not json", unknown, codec.encode("nobody_knows")))
    last = good.send(2)
    run_worker(broker)
    assert [first.result(5), last.result(5)] == [1, 2]
    queue = Queue("default", Tier.P1)
    info = dead(EnqueuedJob(broker, queue, unreadable))
    assert info.reason == "rejected"
    assert "cannot be read" in info.detail
    eventually(lambda: EnqueuedJob(broker, queue, unknown).status() is State.DELAYED)
    keys = broker.store.service("default")
    assert broker.client.zrange(keys.unknown, 0, -1) == [b"nobody_knows"]
    due = eventually(lambda: EnqueuedJob(broker, queue, unknown).info().due_at_ms)
    assert due is not None
    assert due - time.time() * 1000 < 2_000  # soon: in a deploy a worker that knows it is near


# Keys that a plain job's way through the worker touches.
TOUCHED = ("jobs", "ready:1", "delayed", "workers", "news")


@pytest.mark.parametrize("name", TOUCHED)
def test_a_key_of_the_wrong_type_blocks_its_service_only(broker: RedisBroker, run_worker: RunWorker, name: str) -> None:
    ran: list[str] = []

    @fourlane.task(service="bad")
    def on_bad(what: str) -> None:
        ran.append(what)

    @fourlane.task(service="good", result_ttl_ms=10_000)
    def on_good() -> str:
        return "ok"

    on_bad.send("before")
    client, prefix = broker.client, broker.store.service("bad").prefix
    kept = client.dump(prefix + name)
    client.delete(prefix + name)
    client.set(prefix + name, "garbage")
    run_worker(broker, "bad", "good")
    assert on_good.send().result(5) == "ok"
    assert ran == ([] if name in ("jobs", "ready:1", "delayed", "workers") else ran)

    client.delete(prefix + name)
    if kept is not None:
        client.restore(prefix + name, 0, kept)
    eventually(lambda: ran == ["before"])


def test_garbage_among_the_entries_is_passed_over(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[int] = []

    @fourlane.task(service="bad")
    def noted(number: int) -> None:
        ran.append(number)

    client, keys = broker.client, broker.store.service("bad")
    client.rpush(keys.ready[1], "", "x", "1no-body", "1" + "z" * 5_000, b"\xff\xfe", "1|r", "|t5")
    client.zadd(keys.delayed, {"junk": 1, "": 2, b"\xff": 3})
    client.hset(keys.records, "1no-body", "no json")
    noted.send(1)
    noted.send_with_options(args=[2], delay=10)
    run_worker(broker, "bad")
    eventually(lambda: sorted(ran) == [1, 2])
