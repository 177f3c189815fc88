"""A deploy is no failure: what has not begun goes back at once, what runs has its grace, and no attempt is spent."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from fourlane.errors import JobCancelled
from fourlane.job import State
from fourlane.names import Queue, Tier
from fourlane.queues import control, dead_letters
from tests.workers import Workers, eventually


def test_a_stop_lets_running_jobs_end_and_keeps_the_others(workers: Workers) -> None:
    process = workers.start("--slots", "1")
    running = workers.send("hold", "r")
    eventually(lambda: workers.said("begun", "r"))
    waiting = [workers.send("quick", f"w{number}") for number in range(5)]
    process.send_signal(signal.SIGTERM)
    keys = workers.broker.store.service("default")
    eventually(lambda: workers.broker.client.llen(keys.ready[1]) == 5)
    assert process.poll() is None
    workers.open_gate("r")
    assert process.wait(30) == 0, workers.log(process)
    assert len(workers.said("done", "r")) == 1
    assert running.status() is State.UNKNOWN
    for number, sent in enumerate(waiting):
        info = sent.info()
        assert (info.state, info.attempts, info.crashes) == (State.READY, 0, 0)
        assert workers.said("done", f"w{number}") == []
    assert workers.broker.store.lease_names("default") == []


NEW = """
import fourlane
from held_tasks import say

@fourlane.task
def new(name):
    say("done", name)
"""


def test_jobs_of_a_new_task_wait_for_a_worker_that_knows_it(workers: Workers) -> None:
    """A rolling deploy: two old workers take such jobs too, before and after a new one is up."""
    (workers.folder / "new_tasks.py").write_text(NEW)
    old = [workers.start("--slots", "2") for _ in range(2)]
    early = [workers.send("new", f"early{number}") for number in range(20)]
    eventually(lambda: all(sent.status() is State.DELAYED for sent in early))
    new = workers.start("--slots", "2", "held_tasks", module="new_tasks")
    late = [workers.send("new", f"late{number}") for number in range(20)]
    eventually(lambda: all(sent.status() is State.UNKNOWN for sent in early + late))
    assert all(len(workers.said("done", f"{when}{n}")) == 1 for when in ("early", "late") for n in range(20))
    assert "unknown-task" not in workers.log(new)
    assert [workers.log(one).count("unknown-task task=new") for one in old].count(0) <= 1
    assert max(workers.log(one).count("unknown-task task=new") for one in old) == 1


def test_a_job_longer_than_the_grace_is_given_back(workers: Workers) -> None:
    process = workers.start("--slots", "1", FOURLANE_GRACE_SECONDS="1")
    sent = workers.send("hold", "long")
    eventually(lambda: workers.said("begun", "long"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, workers.log(process)
    info = sent.info()
    assert (info.state, info.attempts, info.crashes) == (State.READY, 0, 0)
    workers.start("--slots", "1")
    workers.open_gate("long")
    eventually(lambda: len(workers.said("done", "long")) == 1)


def test_a_cancel_ends_a_job_that_holds_up_a_stop(workers: Workers) -> None:
    process = workers.start("--slots", "1")
    for name, stop, words in (("a", signal.SIGHUP, "reload:"), ("b", signal.SIGTERM, "stopping:")):
        sent = workers.send("hold", name)
        eventually(partial(workers.said, "begun", name))
        process.send_signal(stop)
        eventually(lambda words=words: words in workers.log(process))  # type: ignore[misc]
        sent.cancel()
        with pytest.raises(JobCancelled):
            sent.result(5)
    assert process.wait(30) == 0, workers.log(process)
    assert workers.log(process).count("cancelled job=") == 2


def test_a_deploy_while_another_workers_process_is_killed_loses_and_blames_nothing(workers: Workers) -> None:
    """Two services in every tier, one of them limited, delays among them; what takes over is new."""
    module = workers.several("one", "two")
    store = workers.broker.store
    control.set_limit(store, Queue("one", Tier.P1), concurrency=1)
    given = {"module": module, "FOURLANE_GRACE_SECONDS": "1"}
    old, other = (workers.start("--slots", "2", "--processes", "2", **given) for _ in range(2))
    held = {
        name: workers.send(f"hold_{name[:3]}", name, service=name[:3], tier=2) for name in ("one-a", "two-a", "two-b")
    }
    eventually(lambda: all(workers.said("begun", name) for name in held))
    sent = [
        workers.send(f"quick_{service}", f"{service}{n}", service=service, tier=n % 4, delay_ms=n % 3 * 700)
        for n in range(60)
        for service in ("one", "two")
    ]
    old.send_signal(signal.SIGTERM)
    os.kill(min(workers.children(other)), signal.SIGKILL)
    workers.start("--slots", "2", **given)
    assert old.wait(30) == 0, workers.log(old)
    eventually(lambda: all(job.status() is State.UNKNOWN for job in sent))
    assert all(workers.said("done", f"{service}{n}") for n in range(60) for service in ("one", "two"))
    infos = [job.info() for job in held.values()]
    assert [info.attempts for info in infos] == [0] * 3
    assert sum(info.crashes for info in infos) <= 2  # of those that the killed process held
    for name in held:
        workers.open_gate(name)
    eventually(lambda: all(job.status() is State.UNKNOWN for job in held.values()))
    assert all(workers.is_done(name) for name in held)
    assert dead_letters.count(store) == 0
