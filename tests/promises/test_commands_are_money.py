"""Commands are money: what a real worker asks of Redis is counted, and these tests fail when it grows."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
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
from tests.servers import Server
from tests.workers import eventually

TASKS = """
import fourlane

@fourlane.task
def note(data):
    pass
"""
IDLE_LOOK_SECONDS = 25.0
BODY = codec.encode("note", [{"customer": "cus_9s6XKzkNRiz8i3", "note": "x" * 150}])


class Meter:
    """Counts all that a server is asked, by MONITOR: calls by clients, and with them the commands inside scripts."""

    def __init__(self, server: Server) -> None:
        self.db = redis.Redis.from_url(server.url)
        self.monitor = redis.Redis.from_url(server.url, socket_timeout=None).monitor()
        self.monitor.__enter__()
        self.calls = self.commands = 0
        self.beat = threading.Event()
        self.mark = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        try:
            for heard in self.monitor.listen():
                word = heard["command"].partition(" ")[0]
                if word in ("PING", "HLEN", "ECHO"):  # the test's own
                    if word == "ECHO":
                        self.mark.set()
                    continue
                if word == "ZADD" and ":workers" in heard["command"]:
                    self.beat.set()
                self.commands += 1
                self.calls += heard["client_type"] != "lua"
        except (redis.ConnectionError, ValueError, OSError):
            pass  # the server's end

    def wait_for_beat(self, timeout: float) -> None:
        self.beat.clear()
        assert self.beat.wait(timeout)

    def read(self) -> tuple[int, int]:
        """Calls and commands since the last reading."""
        self.mark.clear()
        self.db.echo("mark")
        assert self.mark.wait(30)
        told = self.calls, self.commands
        self.calls = self.commands = 0
        return told


@pytest.fixture
def meter(redis_server: Server) -> Meter:
    return Meter(redis_server)


StartWorker = Callable[..., None]


@pytest.fixture
def start_worker(redis_server: Server, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts ``fourlane worker`` and waits until it is ready."""
    (tmp_path / "counted_tasks.py").write_text(TASKS)
    source = str(Path(fourlane.__file__).parents[1])
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> None:
        command = [sys.executable, "-c", "from fourlane.cli import main; main()", "worker", "counted_tasks"]
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=tmp_path,
            env=os.environ | {"REDIS_URL": redis_server.url, "PYTHONPATH": source},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        assert any("ready:" in line for line in process.stderr)

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=20)


def send(broker: RedisBroker, number: int) -> list[EnqueuedJob[Any]]:
    ids = [new_id(1, 1_700_000_000_000 + n) for n in range(number)]
    broker.store.enqueue("default", 1, [part for job_id in ids for part in (job_id, BODY)])
    return [EnqueuedJob(broker, Queue("default", Tier.P1), job_id) for job_id in ids]


def wait_empty(broker: RedisBroker, seconds: float = 30.0) -> None:
    key = broker.store.service("default").jobs
    eventually(lambda: broker.client.hlen(key) == 0, seconds)


def test_a_lone_job(start_worker: StartWorker, own_broker: RedisBroker, meter: Meter) -> None:
    start_worker()
    for _ in range(3):  # connections, scripts, the first beat
        send(own_broker, 1)
        wait_empty(own_broker)
    meter.read()
    for _ in range(20):
        send(own_broker, 1)
        wait_empty(own_broker)
    calls, commands = meter.read()
    # Enqueue, lease, settle; and the wait for the next one, which is armed after the job is done.
    assert calls / 20 <= 4.5
    assert commands / 20 <= 14


def test_under_load(start_worker: StartWorker, own_broker: RedisBroker, meter: Meter) -> None:
    start_worker()
    send(own_broker, 1)
    wait_empty(own_broker)
    meter.read()
    jobs = send(own_broker, 20_000)
    wait_empty(own_broker)
    calls, commands = meter.read()
    assert calls / 20_000 <= 0.1
    # How many jobs a turn takes follows their speed; what a turn costs does not.
    assert commands / calls <= 20
    assert jobs[-1].status() is State.UNKNOWN


def test_idle(start_worker: StartWorker, meter: Meter) -> None:
    """One period from look to look, so that a minute is so many of them."""
    start_worker("--services", "default")
    meter.read()
    meter.wait_for_beat(IDLE_LOOK_SECONDS + 10)
    calls, commands = meter.read()
    minute = 60 / IDLE_LOOK_SECONDS
    assert 0 < calls * minute <= 12
    assert commands * minute <= 40


def test_idle_with_many_services(start_worker: StartWorker, own_broker: RedisBroker) -> None:
    """Ten services are looked at in turn. How often, a worker says itself: it counts as dead after three periods."""
    start_worker(*(part for number in range(10) for part in ("--services", f"service-{number}")))
    now = own_broker.client.time()[0]
    key = own_broker.store.service("service-3").workers
    ((_, dead_at),) = own_broker.client.zrange(key, 0, -1, withscores=True)
    looks_a_minute = 10 * 60 / ((dead_at / 1000 - now) / 3)
    assert looks_a_minute * 11 <= 38
