"""Workers killed between the rounds of a conversation: no call is paid twice, no tool that ended runs again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from examples.ai.provider import Provider, Script
from fourlane.crypto import new_key
from tests.workers import Workers, eventually
from tests.workers import workers as workers

TASKS = """
import asyncio, os
import redis
import fourlane
from fourlane.tasks import ai

db = redis.Redis.from_url(os.environ["REDIS_URL"])
me = os.environ["FOURLANE_NAMESPACE"]

@ai.tool
async def waits(name: str) -> str:
    "Waits for its gate."
    db.rpush(f"{me}:said:tool:{name}", os.getpid())
    while not db.exists(f"{me}:gate:{name}"):
        await asyncio.sleep(0.01)
    return "a secret of " + name

@fourlane.task(encrypt=bool(os.environ.get("FOURLANE_ENCRYPTION_KEYS")))
async def talk(name):
    reply = await ai.call("generate", "hello", model="anthropic/claude-haiku-4-5", tools=[waits], tenant="acme")
    db.rpush(f"{me}:said:done:{name}", reply["text"])

@fourlane.task
async def begin(name):
    await talk.asend(name)
"""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


@pytest.fixture(params=["plain", "encrypted"])
def talking(workers: Workers, provider: Provider, request: Any) -> Workers:
    (workers.folder / "talking_tasks.py").write_text(TASKS)
    workers.env |= {"FOURLANE_AI": json.dumps({"base_urls": provider.base_urls}), "ANTHROPIC_API_KEY": "sk-test"}
    if request.param == "encrypted":
        workers.env["FOURLANE_ENCRYPTION_KEYS"] = new_key()
    return workers


def calls(*names: str) -> Script:
    return Script(calls=tuple(("waits", {"name": name}) for name in names))


def test_killed_in_the_second_round_it_goes_on_there(talking: Workers, provider: Provider) -> None:
    provider.scripts += [calls("first"), calls("quick", "slow"), Script(pieces=("Done.",))]
    talking.open_gate("first")
    talking.open_gate("quick")
    workers = [talking.start("--processes", "1", module="talking_tasks") for _ in range(2)]
    talking.send("begin", "x")
    [holder] = eventually(lambda: talking.said("tool", "slow"), 20)
    eventually(lambda: talking.said("tool", "quick"), 5)
    for process in workers:
        if os.getpgid(holder) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    eventually(lambda: len(talking.said("tool", "slow")) == 2, 25)
    talking.open_gate("slow")
    eventually(lambda: talking.db.lrange(f"{talking.namespace}:said:done:x", 0, -1) == ["Done."], 10)
    assert len(provider.requests) == 3
    assert {name: len(talking.said("tool", name)) for name in ("first", "quick", "slow")} == {
        "first": 1,
        "quick": 1,
        "slow": 2,
    }
    told = json.dumps(provider.requests[-1]["body"])
    assert all(f"a secret of {name}" in told for name in ("first", "quick", "slow"))
