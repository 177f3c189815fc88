"""huey: RedisHuey, a list and a bare BRPOP."""

from __future__ import annotations

import os
from typing import Any

from huey import PriorityRedisHuey, RedisHuey

from benchmarks import jobs
from benchmarks.peers.base import Peer, module

__all__ = ["ServedPeer"]

storage = PriorityRedisHuey if os.environ["BENCH_CASE"] == "priority" else RedisHuey
huey = storage("bench", url=os.environ["BENCH_REDIS_URL"], results=False)
TASKS = {name: huey.task(name=name)(getattr(jobs, name)) for name in ("noop", "sleep", "stamp", "hold")}


class ServedPeer(Peer):
    name = "huey"
    package = "huey"
    acknowledged = "never: BRPOP takes the job off, and a worker that dies loses it"
    settings = (
        "huey_consumer -k thread -w 8, N times; RedisHuey, results off, no periodic tasks; urgent: PriorityRedisHuey, "
        "priority 10 before 0; delayed: its scheduler, each second"
    )
    tiers = True

    def commands(self, case: str, processes: int) -> list[list[str]]:
        command = module(
            "huey.bin.huey_consumer", "benchmarks.peers.huey_peer.huey", "-k", "thread", "-w", "8", "-n", "-q"
        )
        return [command] * processes

    def send(self, job: str, payload: dict[str, Any], *, urgent: bool = False, delay_ms: int = 0) -> None:
        if delay_ms:
            TASKS[job].schedule((payload,), delay=delay_ms / 1000)
        elif urgent:
            TASKS[job](payload, priority=10)
        else:
            TASKS[job](payload)
