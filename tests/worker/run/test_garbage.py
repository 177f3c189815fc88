"""Garbage in a service's keys: that service says so and waits; the others go on; nothing good is lost."""

from __future__ import annotations

import pytest

import fourlane
from fourlane.queues.broker import RedisBroker
from tests.servers import eventually
from tests.worker.conftest import RunWorker

# Keys that a plain job's way through the worker touches.
TOUCHED = ("jobs", "ready:1", "delayed", "workers", "news")


@pytest.mark.parametrize("name", TOUCHED)
def test_a_key_of_the_wrong_type_blocks_its_service_only(broker: RedisBroker, run_worker: RunWorker, name: str) -> None:
    ran: list[str] = []

    @fourlane.task(service="bad")
    def on_bad(what: str) -> None:
        ran.append(what)

    @fourlane.task(service="good", result_ttl_ms=10_000)
    def on_good() -> str:
        return "ok"

    on_bad.send("before")
    client, prefix = broker.client, broker.store.service("bad").prefix
    kept = client.dump(prefix + name)
    client.delete(prefix + name)
    client.set(prefix + name, "garbage")
    run_worker(broker, "bad", "good")
    assert on_good.send().result(5) == "ok"
    assert ran == ([] if name in ("jobs", "ready:1", "delayed", "workers") else ran)

    client.delete(prefix + name)
    if kept is not None:
        client.restore(prefix + name, 0, kept)
    eventually(lambda: ran == ["before"], 10)


def test_garbage_among_the_entries_is_passed_over(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[int] = []

    @fourlane.task(service="bad")
    def noted(number: int) -> None:
        ran.append(number)

    client, keys = broker.client, broker.store.service("bad")
    client.rpush(keys.ready[1], "", "x", "1no-body", "1" + "z" * 5_000, b"\xff\xfe", "1|r", "|t5")
    client.zadd(keys.delayed, {"junk": 1, "": 2, b"\xff": 3})
    client.hset(keys.records, "1no-body", "no json")
    noted.send(1)
    noted.send_with_options(args=[2], delay=10)
    run_worker(broker, "bad")
    eventually(lambda: sorted(ran) == [1, 2], 10)
