"""Worker processes killed just after something was paid for: large answers and files are not paid for again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from examples.ai.provider import Fault, Provider, Script
from tests.workers import Workers, eventually
from tests.workers import workers as workers

# Each kills its own process once, at the moment that is named to it.
TASKS = """
import os
import redis
import fourlane
from fourlane.tasks import ai
from fourlane.tasks.ai.paid import kept, shelf
from fourlane.storage.store import Storage

db = redis.Redis.from_url(os.environ["REDIS_URL"])
me = os.environ["FOURLANE_NAMESPACE"]
dies = {"name": "", "at": "", "count": 0}

def reached(moment):
    if dies["at"] == moment:
        if dies["count"]:
            dies["count"] -= 1
        elif db.set(f"{me}:died:{dies['name']}", 1, nx=True):
            os.kill(os.getpid(), 9)

record = kept.Keeper._record
async def recording(self, step, *rest):
    reached("stored")
    await record(self, step, *rest)
    reached("recorded")
kept.Keeper._record = recording

put = Storage.put
def putting(self, name, data, media_type):
    ref = put(self, name, data, media_type)
    if not name.endswith(".json"):
        reached("half")
    return ref
Storage.put = putting

async def did(name, reply):
    db.rpush(f"{me}:said:done:{name}", reply if isinstance(reply, str) else ",".join(reply["files"]) or reply["text"])

@fourlane.task
async def picture(name, at, n):
    dies.update(name=name, at=at, count=0)
    await did(name, await ai.image("a fox 200 kB", n=n))

@fourlane.task
async def long_text(name, at):
    dies.update(name=name, at=at, count=0)
    reply = await ai.call("generate", "hello")
    await did(name, str(len(reply["text"])))

@fourlane.task
async def refused(name, at):
    dies.update(name=name, at=at, count=0)
    await did(name, await ai.call("generate", "hello"))

@fourlane.task
async def many(name, at):
    dies.update(name=name, at=at, count=3)
    made = await ai.embed(["x" * 400_000 + str(i) for i in range(6)], model="openai/nobody-knows", dimensions=8)
    await did(name, str(len(await ai.vectors(made))))
"""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        yield server


@pytest.fixture
def paying(workers: Workers, provider: Provider) -> Workers:
    (workers.folder / "killed_tasks.py").write_text(TASKS)
    config: dict[str, Any] = {"base_urls": provider.base_urls, "fallbacks": {"gpt-6-luna": ["claude-haiku-4.5"]}}
    keys = dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), "sk-test")
    workers.env |= {"FOURLANE_AI": json.dumps(config), "FOURLANE_DATA_DIR": str(workers.folder / "data")} | keys
    return workers


def done(paying: Workers, name: str) -> str:
    key = f"{paying.namespace}:said:done:{name}"
    eventually(lambda: paying.db.llen(key), 30)
    assert paying.db.get(f"{paying.namespace}:died:{name}")
    return str(paying.db.lindex(key, 0))


def test_what_was_kept_is_not_paid_for_again(paying: Workers, provider: Provider) -> None:
    paying.start("--processes", "1", module="killed_tasks")
    for at in ("stored", "recorded"):
        job = paying.send("picture", f"picture-{at}", at, 2)
        assert done(paying, f"picture-{at}") == ",".join(
            f"storage:ai/-/{job.id}/image.{number}.png" for number in (1, 2)
        )
        assert len(provider.requests) == 1
        provider.requests.clear()
        provider.scripts.append(Script(pieces=("word " * 60_000,)))
        paying.send("long_text", f"long-{at}", at)
        assert done(paying, f"long-{at}") == "300000"
        assert len(provider.requests) == 1
        provider.requests.clear()


def test_each_of_several_answers_is_paid_for_once(paying: Workers, provider: Provider) -> None:
    paying.start("--processes", "1", module="killed_tasks")
    provider.faults.append(Fault("refuse"))
    paying.send("refused", "fallback", "recorded")
    assert done(paying, "fallback") == "You said: hello "
    assert [request["path"].rpartition("/")[2] for request in provider.requests] == ["responses", "messages"]
    provider.requests.clear()
    paying.send("many", "many", "recorded")
    assert done(paying, "many") == "6"
    assert len(provider.requests) == 6


def test_what_was_kept_in_part_is_asked_for_again_under_the_same_key(paying: Workers, provider: Provider) -> None:
    paying.start("--processes", "1", module="killed_tasks")
    paying.send("picture", "half", "half", 2)
    done(paying, "half")
    keys = {request["headers"]["idempotency-key"] for request in provider.requests}
    assert (len(provider.requests) <= 2, len(keys)) == (True, 1)
