"""Real processes, killed and stopped: nothing is lost, and nobody else's job suffers (DESIGN.md 3.4, 3.5, 3.8)."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from fourlane.errors import JobCancelled
from fourlane.job import State
from tests.promises.conftest import Workers, alive, eventually


def test_a_killed_process_gives_its_jobs_back_at_once(workers: Workers) -> None:
    supervisor = workers.start("--slots", "2")
    held, other = workers.send("hold", "a"), workers.send("hold", "b")
    first = eventually(lambda: workers.said("begun", "a") and workers.said("begun", "b"))[0]
    os.kill(first, signal.SIGKILL)
    again = eventually(lambda: workers.said("begun", "a")[1:] and workers.said("begun", "b")[1:], 4)[0]
    assert again != first
    assert supervisor.poll() is None
    assert held.info().crashes == other.info().crashes == 1
    for name in "ab":
        workers.open_gate(name)
    eventually(lambda: all(workers.said("done", name) == [again] for name in "ab"))
    eventually(lambda: held.status() is State.UNKNOWN and other.status() is State.UNKNOWN)


def test_a_killed_machine_is_noticed_by_an_idle_worker(workers: Workers) -> None:
    """Supervisor and process die together: nobody reports it, only their silence tells."""
    first = workers.start("--slots", "3")
    sent = [workers.send("hold", name) for name in "abc"]
    eventually(lambda: all(workers.said("begun", name) for name in "abc"))
    second = workers.start("--slots", "3")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait(10)
    eventually(lambda: all(len(workers.said("begun", name)) == 2 for name in "abc"), 7.5)
    assert [s.info().crashes for s in sent] == [0, 0, 0]  # a silence is no proof against a job
    for name in "abc":
        workers.open_gate(name)
    eventually(lambda: all(len(workers.said("done", name)) == 1 for name in "abc"))
    assert second.poll() is None


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


def test_processes_do_not_outlive_their_supervisor(workers: Workers) -> None:
    supervisor = workers.start("--slots", "1")
    workers.send("hold", "x")
    child = eventually(lambda: workers.said("begun", "x"))[0]
    assert alive(child)
    supervisor.kill()
    supervisor.wait(10)
    eventually(lambda: not alive(child))


CANNOT_START = {
    "no_such_module": ("", "no_such_module"),
    "broken_tasks": ("raise ValueError('this module is broken')", "this module is broken"),
    "secret_tasks": (
        "import fourlane\n@fourlane.task(encrypt=True)\ndef charge(card): ...",
        "charge are encrypted: FOURLANE_ENCRYPTION_KEYS is not set",
    ),
}


@pytest.mark.parametrize("module", CANNOT_START)
def test_a_module_whose_jobs_cannot_run(workers: Workers, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, why = CANNOT_START[module]
    monkeypatch.setitem(workers.env, "FOURLANE_ENVIRONMENT", "staging")
    if text:
        (workers.folder / f"{module}.py").write_text(f"{text}\n")
    process = workers.start(module=module)
    assert process.wait(10) == 78
    [line] = [line for line in workers.log(process).splitlines() if "cannot start" in line]
    assert why in line
    assert "Traceback" not in workers.log(process)


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
    for processes, services, task, wait in ((1, places["one"], "shoot", "hold"), (2, places["two"], "ashoot", "wait")):
        served = [word for service in services for word in ("--services", service)]
        workers.start("--processes", str(processes), *served, module="slow", FOURLANE_CRASH_LIMIT="2")
        innocents.append(workers.send(f"{wait}_{services[1]}", services[1], service=services[1]))
        killers.append(workers.send(f"{task}_{services[0]}", task, service=services[0]))
    eventually(lambda: all(killer.status() is State.DEAD for killer in killers), 80)
    assert [killer.info().reason for killer in killers] == ["poison"] * 2
    assert all(len(workers.said("begun", task)) <= 14 for task in ("shoot", "ashoot"))
    assert {innocent.info().attempts for innocent in innocents} == {0}
    names = [services[1] for services in places.values()]
    for name in names:
        workers.open_gate(name)
    eventually(lambda: all(innocent.status() is State.UNKNOWN for innocent in innocents), 40)
    assert all(len(workers.said("done", name)) == 1 for name in names)
