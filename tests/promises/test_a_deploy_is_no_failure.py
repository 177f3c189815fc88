"""A deploy is no failure: what has not begun goes back at once, what runs has its grace, and no attempt is spent."""

from __future__ import annotations

import signal
from functools import partial

import pytest

from fourlane.errors import JobCancelled
from fourlane.job import State
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
    assert process.wait(10) == 0, workers.log(process)
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
    eventually(lambda: all(sent.status() is State.UNKNOWN for sent in early + late), 8)
    assert all(len(workers.said("done", f"{when}{n}")) == 1 for when in ("early", "late") for n in range(20))
    assert "unknown-task" not in workers.log(new)
    assert [workers.log(one).count("unknown-task task=new") for one in old].count(0) <= 1
    assert max(workers.log(one).count("unknown-task task=new") for one in old) == 1


def test_a_job_longer_than_the_grace_is_given_back(workers: Workers) -> None:
    process = workers.start("--slots", "1", FOURLANE_GRACE_SECONDS="1")
    sent = workers.send("hold", "long")
    eventually(lambda: workers.said("begun", "long"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0, workers.log(process)
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
    assert process.wait(5) == 0, workers.log(process)
    assert workers.log(process).count("cancelled job=") == 2
