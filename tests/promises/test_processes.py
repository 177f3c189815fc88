"""Real processes, killed and stopped: nothing is lost, and nobody else's job suffers (DESIGN.md 3.4, 3.5, 3.8)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import fourlane
from fourlane import codec
from fourlane.job import State, new_id
from fourlane.names import Queue, Tier
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import EnqueuedJob
from tests.servers import eventually

START = 15.0

TASKS = '''
"""Tasks that say in Redis what they do."""
import os, signal, time
import redis
import fourlane

db = redis.Redis.from_url(os.environ["REDIS_URL"])
me = os.environ["FOURLANE_NAMESPACE"]

def say(what, name):
    db.rpush(f"{me}:said:{what}:{name}", os.getpid())

@fourlane.task
def hold(name):
    """Runs until the gate of its name opens."""
    say("begun", name)
    while not db.exists(f"{me}:gate:{name}"):
        time.sleep(0.01)
    say("done", name)

@fourlane.task
def quick(name):
    say("done", name)

@fourlane.task
def kill(name):
    say("begun", name)
    os.kill(os.getpid(), signal.SIGKILL)
'''


class Workers:
    """Starts ``fourlane worker`` on the tasks above, and hears what they say."""

    def __init__(self, url: str, namespace: str, folder: Path) -> None:
        self.namespace = namespace
        self.folder = folder
        source = str(Path(fourlane.__file__).parents[1])
        self.env = os.environ | {"REDIS_URL": url, "FOURLANE_NAMESPACE": namespace, "PYTHONPATH": source}
        self.broker = RedisBroker(url=url, namespace=namespace)
        self.db = redis.Redis.from_url(url, decode_responses=True)
        self.started: list[subprocess.Popen[bytes]] = []
        (folder / "held_tasks.py").write_text(TASKS)

    def start(self, *arguments: str, module: str = "held_tasks", **env: str) -> subprocess.Popen[bytes]:
        """Start one and wait until it is ready, or has ended."""
        log = self.folder / f"log{len(self.started)}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-c", "from fourlane.cli import main; main()", "worker", module, *arguments],
                cwd=self.folder,
                env=self.env | env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.started.append(process)
        eventually(lambda: process.poll() is not None or "ready:" in self.log(process), START)
        return process

    def log(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"log{self.started.index(process)}").read_text()

    def send(self, task: str, name: str) -> EnqueuedJob[Any]:
        job_id = new_id(1, int(self.db.time()[0]) * 1000)
        self.broker.store.enqueue("default", 1, (job_id, codec.encode(task, [name])))
        return EnqueuedJob(self.broker, Queue("default", Tier.P1), job_id)

    def said(self, what: str, name: str) -> list[int]:
        """The process ids that said this."""
        return [int(pid) for pid in self.db.lrange(f"{self.namespace}:said:{what}:{name}", 0, -1)]

    def open_gate(self, name: str) -> None:
        self.db.set(f"{self.namespace}:gate:{name}", 1)

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        self.db.close()
        self.broker.close()


@pytest.fixture
def workers(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(redis_url, namespace, tmp_path)
    yield started
    started.close()


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


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
    assert [s.info().crashes for s in sent] == [1, 1, 1]
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
    assert (info.reason, info.crashes) == ("poison", 3)
    assert "SIGKILL" in info.detail
    assert len(workers.said("begun", "p")) == 3
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


def test_processes_do_not_outlive_their_supervisor(workers: Workers) -> None:
    supervisor = workers.start("--slots", "1")
    workers.send("hold", "x")
    child = eventually(lambda: workers.said("begun", "x"))[0]
    assert alive(child)
    supervisor.kill()
    supervisor.wait(10)
    eventually(lambda: not alive(child))


@pytest.mark.parametrize("module", ["no_such_module", "broken_tasks"])
def test_a_module_that_does_not_import(workers: Workers, module: str) -> None:
    (workers.folder / "broken_tasks.py").write_text("raise ValueError('this module is broken')\n")
    process = workers.start(module=module)
    assert process.wait(10) == 78
    lines = [line for line in workers.log(process).splitlines() if "cannot start" in line]
    assert len(lines) == 1
    assert ("no_such_module" if module == "no_such_module" else "this module is broken") in lines[0]
    assert "Traceback" not in workers.log(process)
