"""Limits from the settings and from operators, through real workers."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest
import redis

from fourlane import codec
from fourlane.job import new_id
from fourlane.names import Queue, Tier
from fourlane.queues import control
from fourlane.queues.broker import RedisBroker
from fourlane.queues.store import Store
from fourlane.tasks.task import EnqueuedJob
from tests.command import Command
from tests.command import command as command
from tests.commands.conftest import QUEUE, Run, read
from tests.queues.conftest import Hand
from tests.servers import eventually

TASKS = '''
"""Says when it begins and ends, and how many run at once."""
import os, time
import redis
import fourlane

db = redis.Redis.from_url(os.environ["REDIS_URL"])
me = os.environ["FOURLANE_NAMESPACE"]

@fourlane.task(service="mail")
def send(number, to=None):
    db.rpush(f"{me}:at_once", db.incr(f"{me}:running"))
    db.rpush(f"{me}:begun", time.time())
    while db.exists(f"{me}:hold"):
        time.sleep(0.01)
    db.decr(f"{me}:running")
'''


@pytest.fixture
def db(redis_url: str) -> Any:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def start(command: Command, limits: dict[str, Any], *args: str) -> subprocess.Popen[Any]:
    command.env["FOURLANE_LIMITS"] = json.dumps(limits)
    process = command.start("worker", "mail_tasks", "--slots", "4", *args, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any(line.startswith("ready:") for line in process.stderr)
    return process


def stop(process: subprocess.Popen[Any]) -> None:
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.fixture
def tasks(command: Command) -> None:
    command.module("mail_tasks", TASKS)


@pytest.mark.usefixtures("tasks")
def test_a_limit_from_the_settings_holds(command: Command, namespace: str, hand: Hand, db: Any) -> None:
    db.set(f"{namespace}:hold", 1)
    hand.enqueue(4)
    process = start(command, {"jobs.normal.mail": {"concurrency": 2}})
    eventually(lambda: db.llen(f"{namespace}:begun") == 2)
    hand.enqueue(1, service="other")  # gives the worker every reason to take another turn
    shown = command("limits", "show", "--json")
    assert json.loads(shown.stdout)["limits"][QUEUE] == {"concurrency": 2, "source": "settings"}
    db.delete(f"{namespace}:hold")
    eventually(lambda: db.llen(f"{namespace}:begun") == 4)
    assert max(map(int, db.lrange(f"{namespace}:at_once", 0, -1))) == 2
    stop(process)


@pytest.mark.usefixtures("tasks")
def test_a_rate_from_the_settings_holds(command: Command, namespace: str, hand: Hand, db: Any) -> None:
    hand.enqueue(6)
    process = start(command, {QUEUE: {"rate": 10, "burst": 1}})
    eventually(lambda: db.llen(f"{namespace}:begun") == 6)
    begun = sorted(map(float, db.lrange(f"{namespace}:begun", 0, -1)))
    assert begun[-1] - begun[0] > 0.4  # five gaps of a tenth, by another clock
    stop(process)


@pytest.mark.usefixtures("tasks")
def test_settings_replace_their_own_limits_and_no_operators(command: Command, store: Store) -> None:
    limits = {"mail": {"rate": 100, "burst": 7}, "jobs.high.mail": {"rate": 5}, "jobs.low.other": {"rate": 5}}
    stop(start(command, limits))
    control.pause(store, QUEUE)
    assert command("limits", "set", "jobs.high.mail", "--concurrency", "3").returncode == 0

    # Changed: nothing of the former stays, but the pause does. Kept: the operator's. Not its service: untouched.
    stop(start(command, {"mail": {"concurrency": 9}, "jobs.high.mail": {"rate": 50}}, "--services", "mail"))
    found = control.limits(store)
    assert (found[QUEUE].rate, found[QUEUE].burst, found[QUEUE].concurrency) == (None, None, 9)
    assert found[QUEUE].paused
    high = found["local.jobs.high.mail"]
    assert (high.rate, high.concurrency, high.source) == (5, 3, "runtime")
    assert found["local.jobs.low.other"].rate == 5

    # Removed, for all services, as this worker is not bound to any.
    stop(start(command, {}))
    found = control.limits(store)
    assert not found[QUEUE].limits
    assert found[QUEUE].paused
    assert set(found) == {QUEUE, "local.jobs.high.mail"}

    # An operator's limit ends with its clearing; then the settings count again.
    assert command("limits", "clear", "jobs.high.mail").returncode == 0
    stop(start(command, {"jobs.high.mail": {"rate": 6}}))
    assert control.limits(store)["local.jobs.high.mail"].rate == 6


LIMITED = """
import sys
import fourlane

@fourlane.task(service="mail", limit=fourlane.Limit(rate=20, per_ms=500, concurrency=3))
def first(): ...

@fourlane.task(service="mail"{second})
def second(): ...

@fourlane.task(service="mail", result_ttl_ms=60_000)
def loaded():
    return sorted({{"pydantic", "httpx", "boto3", "sqlalchemy"}} & set(sys.modules))
"""


def test_a_task_limits_its_queue(command: Command, store: Store) -> None:
    command.module("mail_tasks", LIMITED.format(second=""))
    stop(start(command, {}))
    declared = control.limits(store)[QUEUE]
    assert (declared.rate, declared.per_ms, declared.concurrency, declared.source) == (20, 500, 3, "task")

    # What the settings say comes before it, and it comes back when they say nothing.
    stop(start(command, {QUEUE: {"concurrency": 1}}))
    assert (control.limits(store)[QUEUE].rate, control.limits(store)[QUEUE].source) == (None, "settings")
    stop(start(command, {}))
    assert control.limits(store)[QUEUE].source == "task"

    command.module("mail_tasks", LIMITED.format(second="").replace("limit=", "limit=None and "))
    stop(start(command, {}))
    assert control.limits(store) == {}


def test_two_tasks_that_limit_one_queue_differently_are_refused(command: Command) -> None:
    command.module("mail_tasks", LIMITED.format(second=", limit=fourlane.Limit(concurrency=9)"))
    process = command.start("worker", "mail_tasks", stderr=subprocess.PIPE, text=True)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 78
    assert "first and second declare different limits" in told
    assert "Traceback" not in told


def test_a_worker_process_loads_nothing_heavy(command: Command, store: Store) -> None:
    """What a process does not load, it need not keep: each weighs as much as hundreds of jobs."""
    command.module("mail_tasks", LIMITED.format(second=""))
    process = start(command, {})
    job_id = new_id(1, 1_700_000_000_000)
    store.enqueue("mail", 1, (job_id, codec.encode("loaded")))
    broker = RedisBroker(client=store.connector.client, namespace=store.namespace)
    assert EnqueuedJob(broker, Queue("mail", Tier.P1), job_id).result(10) == []
    stop(process)


def test_limits(run: Run) -> None:
    assert "nothing is" in run("limits").stdout
    run("limits", "set", "mail", "--rate", "10", code=1)
    run("limits", "set", "mail", "--rate", "10", "--per", "1m", "--concurrency", "5", "--force")
    assert "10 per 1m, 5 at once" in run("limits", "show", "mail").stdout
    assert read(run("limits", "--json"))["limits"][QUEUE]["per_ms"] == 60_000
    assert run("limits", "set", "mail", code=2)
    assert (
        run("limits", "set", "other", "--burst", "3", "--force", code=1).stderr
        == "error: per_ms and burst need a rate\n"
    )
    run("limits", "clear", "mail")
    assert read(run("limits", "--json")) == {"limits": {}}
