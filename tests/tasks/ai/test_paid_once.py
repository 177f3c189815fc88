"""Worker processes killed around a paid call: it is not paid again where our record can prevent it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from examples.ai.provider import Fault, Provider
from fourlane import State
from tests.workers import Workers, eventually
from tests.workers import workers as workers

TASKS = """
import asyncio, os
import redis
import fourlane
from fourlane.tasks import ai

db = redis.Redis.from_url(os.environ["REDIS_URL"])
me = os.environ["FOURLANE_NAMESPACE"]

@fourlane.task
async def report(name):
    db.rpush(f"{me}:said:begun:{name}", os.getpid())
    reply = await ai.call("generate", "hello", tenant="acme")
    db.rpush(f"{me}:said:paid:{name}", os.getpid())
    while not db.exists(f"{me}:gate:{name}"):
        await asyncio.sleep(0.01)
    db.rpush(f"{me}:said:done:{name}", reply["text"])

@fourlane.task
def steps(name):
    fourlane.step.call("charge", lambda: db.incr(f"{me}:charged:{name}"))
    db.rpush(f"{me}:said:paid:{name}", os.getpid())
    for number in fourlane.resume(range(5), cursor="rows"):
        db.rpush(f"{me}:rows:{name}", number)
        if number == 2 and db.incr(f"{me}:third:{name}") == 1:
            os.kill(os.getpid(), 9)
    db.rpush(f"{me}:said:done:{name}", "x")
"""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


@pytest.fixture
def paying(workers: Workers, provider: Provider) -> Workers:
    (workers.folder / "paying_tasks.py").write_text(TASKS)
    workers.env |= {"FOURLANE_AI": json.dumps({"base_urls": provider.base_urls}), "OPENAI_API_KEY": "sk-test"}
    return workers


def test_killed_after_the_call_it_is_not_paid_again(paying: Workers, provider: Provider) -> None:
    first = paying.start("--processes", "1", module="paying_tasks")
    job = paying.send("report", "a")
    eventually(lambda: paying.said("paid", "a"), 20)
    os.killpg(first.pid, signal.SIGKILL)
    paying.start(module="paying_tasks")
    eventually(lambda: len(paying.said("paid", "a")) == 2, 25)
    paying.open_gate("a")
    eventually(lambda: paying.db.llen(f"{paying.namespace}:said:done:a"))
    assert len(provider.requests) == 1
    assert "".join(piece.text for piece in job.stream(timeout=5)) == "You said: hello "


def test_killed_amid_the_call_it_is_asked_again_under_the_same_key(paying: Workers, provider: Provider) -> None:
    provider.faults.append(Fault("hang"))
    first = paying.start("--processes", "1", module="paying_tasks")
    paying.send("report", "b")
    eventually(lambda: provider.requests, 20)
    os.killpg(first.pid, signal.SIGKILL)
    paying.open_gate("b")
    paying.start(module="paying_tasks")
    eventually(lambda: paying.db.llen(f"{paying.namespace}:said:done:b"), 25)
    keys = [request["headers"]["idempotency-key"] for request in provider.requests]
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_killed_between_rows_it_charges_once_and_repeats_one_row(paying: Workers) -> None:
    paying.start("--processes", "1", module="paying_tasks")
    job = paying.send("steps", "c")
    eventually(lambda: paying.db.llen(f"{paying.namespace}:said:done:c"), 25)
    assert paying.db.get(f"{paying.namespace}:charged:c") == "1"
    assert paying.db.lrange(f"{paying.namespace}:rows:c", 0, -1) == ["0", "1", "2", "2", "3", "4"]
    eventually(lambda: job.status() is State.UNKNOWN)  # done, nothing kept
    keys = paying.broker.store.service("default")
    assert not paying.broker.store.connector.command(keys.records, "EXISTS", keys.records)
