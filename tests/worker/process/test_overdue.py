"""The hard limit: a process whose job runs past it is killed, and its neighbours are not blamed."""

from __future__ import annotations

from fourlane.job import State
from fourlane.queues import browse, doctor
from fourlane.queues.status import judge, look
from tests.workers import Workers, eventually


def test_the_hard_limit_ends_a_job_that_holds_the_interpreter(workers: Workers) -> None:
    supervisor = workers.start("--slots", "3")
    neighbour = workers.send("hold", "n")
    eventually(lambda: workers.said("begun", "n"))
    seizing = workers.send("seize_too_long", "s")
    eventually(lambda: seizing.status() is State.DEAD, 30)
    info = seizing.info()
    assert (info.reason, info.crashes) == ("poison", 3)
    assert "hard limit" in info.detail
    assert len(workers.said("begun", "s")) == 3
    workers.open_gate("n")
    eventually(lambda: workers.is_done("n"))
    eventually(lambda: neighbour.status() is State.UNKNOWN)
    assert f"hard-limit job={seizing.id}" in workers.log(supervisor)


def test_neighbours_of_an_overdue_job_count_no_crash(workers: Workers) -> None:
    workers.start("--slots", "3", FOURLANE_CRASH_LIMIT="1")
    neighbour = workers.send("hold", "n")
    eventually(lambda: workers.said("begun", "n"))
    seizing = workers.send("seize_too_long", "s")
    eventually(lambda: seizing.status() is State.DEAD)
    eventually(lambda: len(workers.said("begun", "n")) == 2)
    info = neighbour.info()
    assert (info.state, info.crashes, info.attempts) == (State.RUNNING, 0, 0)
    workers.open_gate("n")
    eventually(lambda: neighbour.status() is State.UNKNOWN)


def test_the_hard_limit_of_the_settings(workers: Workers) -> None:
    workers.start(FOURLANE_HARD_TIMEOUT_MS="800", FOURLANE_CRASH_LIMIT="1")
    seizing = workers.send("seize_by_setting", "s")
    eventually(lambda: seizing.status() is State.DEAD)
    assert seizing.info().reason == "poison"


STUBBORN = """
import time
import fourlane
from held_tasks import db, me, say

@fourlane.task(timeout_ms=100)
def stubborn(name):
    say("begun", name)
    while not db.exists(f"{me}:gate:{name}"):
        try:
            time.sleep(0.02)
        except BaseException:
            pass
"""


def test_a_job_that_runs_past_its_own_limit_is_told(workers: Workers) -> None:
    (workers.folder / "stubborn.py").write_text(STUBBORN)
    workers.start("stubborn")
    sent = workers.send("stubborn", "s")
    store = workers.broker.store
    (trouble,) = eventually(lambda: [t for t in judge(look(store)) if t.rule == "JobOverrun"], 20, interval=0.2)
    assert f"job {sent.id} (stubborn) has run" in trouble.text
    found = [f for f in doctor.examine(store, workers=browse.workers(store)) if f.name == "jobs"]
    assert [f.level for f in found] == [doctor.Level.ERROR]
    workers.open_gate("s")
    eventually(lambda: not [t for t in judge(look(store)) if t.rule == "JobOverrun"], interval=0.2)
