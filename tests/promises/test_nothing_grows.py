"""Nothing grows without bound: whatever became of jobs, what they leave has an owner, a limit or an end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import fourlane
from fourlane import Backoff, Reject, Snooze, State, codec, current_job, step
from fourlane.job import new_id
from fourlane.names import Queue, Tier
from fourlane.queues import browse, dead_letters, doctor
from fourlane.queues.broker import RedisBroker
from fourlane.queues.dead_letters import Filter
from fourlane.tasks.task import EnqueuedJob
from tests.servers import eventually
from tests.worker.conftest import RunWorker

SIZES = {b"hash": "hlen", b"zset": "zcard", b"set": "scard", b"list": "llen", b"stream": "xlen"}
BY_FIGURE = ("stats", "audit", "wake", "news", "watch")  # bounded by a number of their own (queues/keys.py)


def kept_for_good(broker: RedisBroker) -> dict[str, int]:
    """The size of each key that does not expire."""
    client = broker.client
    names = {key: key.decode().rpartition(":" if b"}" not in key else "}:")[2] for key in client.scan_iter(count=1000)}
    lasting = [key for key, name in names.items() if client.ttl(key) == -1 and not name.startswith(BY_FIGURE)]
    return {key.decode(): getattr(client, SIZES[client.type(key)])(key) for key in lasting if client.exists(key)}


class Jobs:
    """Tasks of one service, and jobs of theirs that come to every end."""

    def __init__(self, service: str) -> None:
        self.service = service
        self.tries: set[str] = set()
        self.waits_now = threading.Event()
        common: dict[str, Any] = {"service": service, "backoff": Backoff(1, 1)}
        hears = fourlane.task(name=f"hears_{service}", service=service)(lambda *words: None).actor_name
        told = {"on_failure": hears, "on_retry_exhausted": hears}

        @fourlane.task(name=f"kept_{service}", tier="P0", result_ttl_ms=60_000, on_success=hears, **common)
        def kept() -> str:
            job = current_job()
            job.write("words")
            job.log("a line")
            job.progress(0.5)
            return "x"

        @fourlane.task(name=f"retried_{service}", **common)
        def retried(name: str) -> None:
            step.call("paid", lambda: "receipt")
            if name not in self.tries:
                self.tries.add(name)
                raise Snooze(0.01) if name.startswith("snooze") else ValueError("again")

        @fourlane.task(name=f"fails_{service}", tier="P2", max_retries=1, **told, **common)
        def fails() -> None:
            raise ValueError("each time")

        @fourlane.task(name=f"rejects_{service}", tier="P3", limit=fourlane.Limit(concurrency=2, rate=1000), **common)
        async def rejects() -> None:
            await asyncio.sleep(0)
            raise Reject("never")

        @fourlane.task(name=f"waits_{service}", **told, **common)
        async def waits() -> None:
            self.waits_now.set()
            await asyncio.sleep(30)

        self.kept, self.retried, self.fails, self.rejects, self.waits = kept, retried, fails, rejects, waits

    def run(self, broker: RedisBroker, round_: int) -> str:
        """Some of each, all at once, to their ends. Returns the one that was cancelled while it runs."""
        self.waits_now.clear()
        self.kept.send_many([()] * 20)
        self.retried.send_many([[f"{way}{round_}.{n}"] for way in ("snooze", "retry") for n in range(5)])
        self.fails.send_many([()] * 5)
        self.rejects.send_many([()] * 5)
        running = self.waits.send()
        for never in (self.kept.send_with_options(delay=60_000), self.waits.send_with_options(delay=60_000)):
            assert never.cancel() is State.DELAYED
        ids = [new_id(1, 1_700_000_000_000) for _ in range(2)]
        broker.store.enqueue(self.service, 1, (ids[0], b"no JSON", ids[1], codec.encode("nobody_knows_it")))
        unknown = EnqueuedJob[None](broker, Queue(self.service, Tier.P1), ids[1])
        eventually(lambda: unknown.status() is State.DELAYED)
        unknown.cancel()
        assert self.waits_now.wait(30)
        assert running.cancel() is State.RUNNING
        return running.id


def counts(broker: RedisBroker) -> list[int]:
    """Of each service, jobs and dead letters."""
    keys = [broker.store.service(name) for name in ("one", "two")]
    dead = [sum(broker.client.zcard(key) for key in service.dead) for service in keys]
    return [broker.client.hlen(service.jobs) for service in keys] + dead


DEAD = 11  # of a round in each service: five that fail, five that are rejected, one that cannot be read


def test_what_jobs_of_every_end_leave_does_not_grow(own_broker: RedisBroker, run_worker: RunWorker) -> None:
    """Two services and two workers; the dead letters are replayed once, and discarded."""
    store = own_broker.store
    services = [Jobs(name) for name in ("one", "two")]
    workers = [run_worker(own_broker, "one", "two", slots=4) for _ in range(2)]
    left: list[dict[str, int]] = []
    for round_ in range(3):
        cancelled = {jobs.run(own_broker, round_) for jobs in services}
        for worker in workers:
            worker.told_cancelled(cancelled)  # as its supervisor tells
        for replay in (True, False):
            eventually(lambda: counts(own_broker) == [DEAD] * 4)
            if replay:
                dead_letters.replay(store, Filter())
        dead_letters.discard(store, Filter())
        left.append(eventually(lambda: (now := kept_for_good(own_broker)) and "records" not in str(now) and now))
    assert left[0] == left[1] == left[2]
    found = {f.name: f for f in doctor.examine(store, workers=browse.workers(store))}
    assert found["keys"].level is doctor.Level.OK, found["keys"]
