"""Real workers: ``fourlane worker`` as a user starts it, and tasks that say what they do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import fourlane
from fourlane import codec
from fourlane.job import new_id
from fourlane.names import Queue, Tier
from fourlane.queues.broker import RedisBroker
from fourlane.queues.store import Delayed
from fourlane.tasks.task import EnqueuedJob
from tests import warm
from tests.servers import PATIENCE_SECONDS, START_SECONDS
from tests.servers import eventually as eventually

TASKS = '''
"""Tasks that say in Redis what they do."""
import ctypes, os, re, signal, subprocess, time
import redis
import fourlane

db = redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=60)
me = os.environ["FOURLANE_NAMESPACE"]
kept = []

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

@fourlane.task(max_retries=0)
def fail(name):
    say("begun", name)
    raise ValueError("as planned")

@fourlane.task(backoff=fourlane.Backoff(10, 10), max_retries=1)
def fail_twice(name):
    raise ValueError("as planned")

@fourlane.task
def seize(name, seconds):
    """Holds the interpreter's lock, as a long call of C code does."""
    say("begun", name)
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    say("done", name)

@fourlane.task(hard_timeout_ms=800)
def seize_too_long(name):
    say("begun", name)
    re.match(r"(a+)+$", "a" * 40 + "b")

@fourlane.task
def seize_by_setting(name):
    say("begun", name)
    re.match(r"(a+)+$", "a" * 40 + "b")

@fourlane.task
def swell(name, megabytes):
    kept.append(b"x" * (megabytes << 20))
    say("done", name)

@fourlane.task
def read_stdin(name):
    said = subprocess.run(["cat"], stdout=subprocess.PIPE, timeout=20).stdout
    say("done", name)

@fourlane.task
def leave(name):
    os._exit(0)

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

    def several(self, *services: str) -> str:
        """A module in which each of these has ``hold`` and ``quick`` of its own: ``quick_one``."""
        (self.folder / "several.py").write_text(
            f"from held_tasks import *\n\nfor service in {services}:\n    for task in (hold, quick):\n"
            "        fourlane.task(task.fn, service=service, name=f'{task.actor_name}_{service}')\n"
        )
        return "several"

    def start(
        self,
        *arguments: str,
        module: str = "held_tasks",
        command: str = "worker",
        until: str = "ready:",
        program: str = "",
        **env: str,
    ) -> subprocess.Popen[bytes]:
        """Start one, or another program, and wait until its log has these words, or it has ended."""
        log = self.folder / f"log{len(self.started)}"
        with log.open("wb") as out:
            kind = subprocess.Popen if program else warm.Process
            process = kind(
                [*([sys.executable, "-c", program] if program else ["fourlane"]), command, module, *arguments],
                cwd=self.folder,
                env=self.env | env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.started.append(process)
        eventually(lambda: process.poll() is not None or until in self.log(process), START_SECONDS)
        return process

    def log(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"log{self.started.index(process)}").read_text()

    def send(
        self,
        task: str,
        name: str,
        *more: Any,
        service: str = "default",
        tier: int = 1,
        delay_ms: int = 0,
        **options: Any,
    ) -> EnqueuedJob[Any]:
        job_id = new_id(tier, int(self.db.time()[0]) * 1000)
        body = codec.encode(task, [name, *more], options=options)
        if delay_ms:
            self.broker.store.delay(service, [Delayed(job_id, body, delay_ms)])
        else:
            self.broker.store.enqueue(service, tier, (job_id, body))
        return EnqueuedJob(self.broker, Queue(service, Tier(tier)), job_id)

    def said(self, what: str, name: str) -> list[int]:
        """The process ids that said this."""
        return [int(pid) for pid in self.db.lrange(f"{self.namespace}:said:{what}:{name}", 0, -1)]

    def is_done(self, name: str, times: int = 1) -> bool:
        return len(self.said("done", name)) == times

    def wait_for(self, process: subprocess.Popen[bytes], words: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Until its log has these words."""
        eventually(lambda: words in self.log(process), seconds)

    def children(self, supervisor: subprocess.Popen[bytes]) -> set[int]:
        """The worker processes under this supervisor that live."""
        found = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children").read_text().split()
        return {int(pid) for pid in found if alive(int(pid))}

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
    except (FileNotFoundError, ProcessLookupError):  # before it is opened, and after
        return False
    return state != "Z"


def ask(port: int, path: str) -> tuple[int, dict[str, Any]]:
    """What a worker's probe answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)
