"""taskiq with a Redis stream."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

from taskiq import TaskiqScheduler
from taskiq_redis import ListRedisScheduleSource, RedisStreamBroker

from benchmarks import jobs
from benchmarks.jobs import PAYLOAD
from benchmarks.peers.base import Peer

__all__ = ["ServedPeer"]

broker = RedisStreamBroker(os.environ["BENCH_REDIS_URL"], consumer_id="0")
source = ListRedisScheduleSource(os.environ["BENCH_REDIS_URL"])
scheduler = TaskiqScheduler(broker, [source])


@broker.task(task_name="noop")
async def noop(payload: dict[str, Any]) -> None:
    jobs.noop(payload)


@broker.task(task_name="stamp")
async def stamp(payload: dict[str, Any]) -> None:
    jobs.stamp(payload)


hold = broker.task(task_name="hold")(jobs.hold)  # sleeps, so a plain function in a thread
TASKS: dict[str, Any] = {"noop": noop, "stamp": stamp, "hold": hold}


class ServedPeer(Peer):
    name = "taskiq"
    package = "taskiq"
    acknowledged = "after the run (stream, XACK); a dead worker's jobs return after idle_timeout, 10 minutes"
    settings = (
        "taskiq worker --workers N --max-threadpool-threads 8 --ack-type when_executed; RedisStreamBroker with its "
        "defaults (100 a read), no result backend; async def jobs, its own kind, 100 at once; delayed: taskiq "
        "scheduler --update-interval 1"
    )

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._loop = asyncio.new_event_loop()
        self._run(broker.startup())

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def version(self) -> str:
        return f"{version('taskiq')} (taskiq-redis {version('taskiq-redis')})"

    def commands(self, case: str, processes: int) -> list[list[str]]:
        taskiq = str(Path(sys.executable).parent / "taskiq")
        worker = [
            taskiq, "worker", "benchmarks.peers.taskiq_peer:broker", "--workers", str(processes),
            "--max-threadpool-threads", "8", "--ack-type", "when_executed", "--log-level", "WARNING",
        ]  # fmt: skip
        ticker = [
            taskiq, "scheduler", "benchmarks.peers.taskiq_peer:scheduler", "--update-interval", "1",
            "--log-level", "WARNING",
        ]  # fmt: skip
        return [worker, ticker] if case == "delayed" else [worker]

    def send(self, job: str, payload: dict[str, Any], *, urgent: bool = False, delay_ms: int = 0) -> None:
        self._run(self._send(job, payload, delay_ms))

    async def _send(self, job: str, payload: dict[str, Any], delay_ms: int = 0) -> None:
        if delay_ms:
            await TASKS[job].schedule_by_time(source, datetime.now(UTC) + timedelta(milliseconds=delay_ms), payload)
        else:
            await TASKS[job].kiq(payload)

    def fill(self, job: str, most: int, seconds: float, *, delay_ms: int = 0, least: int = 0) -> int:
        async def fill() -> int:
            sent, deadline = 0, time.monotonic() + seconds
            while sent < most and (sent < least or time.monotonic() < deadline):
                # Some at once: without a bulk call that is what an async program would do.
                step = min(50, most - sent)
                await asyncio.gather(*(self._send(job, PAYLOAD, delay_ms) for _ in range(step)))
                sent += step
            return sent

        return int(self._run(fill()))

    def one_at_a_time(self, seconds: float) -> float:
        async def send() -> float:
            sent, began = 0, time.monotonic()
            while time.monotonic() - began < seconds:
                await noop.kiq(PAYLOAD)
                sent += 1
            return sent / (time.monotonic() - began)

        return float(self._run(send()))
