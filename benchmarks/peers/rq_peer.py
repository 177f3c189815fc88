"""RQ without a fork for each job."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import redis
from rq import Queue, Retry
from rq.serializers import JSONSerializer

from benchmarks import jobs
from benchmarks.peers.base import Peer

__all__ = ["ServedPeer"]

FUNCTIONS = {name: getattr(jobs, name) for name in ("noop", "sleep", "stamp", "hold")}


class ServedPeer(Peer):
    name = "rq"
    package = "rq"
    acknowledged = "kept in a registry while it runs; of a dead worker's jobs those with retries left return"
    settings = (
        "rq worker --worker-class rq.worker.SimpleWorker (no fork), N times, one job at a time each; 8 of them where "
        "the case asks for 8 slots; JSON serializer, results dropped, Retry(max=3); urgent: the first of two queues; "
        "delayed: --with-scheduler"
    )
    bulk = True
    tiers = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        connection = redis.Redis.from_url(url)
        self.queues = [Queue(name, connection=connection, serializer=JSONSerializer) for name in ("low", "high")]

    def commands(self, case: str, processes: int) -> list[list[str]]:
        command = [
            str(Path(sys.executable).parent / "rq"), "worker", "high", "low", "--url", self.url, "--serializer", "json",
            "--worker-class", "rq.worker.SimpleWorker", "--logging_level", "WARNING",
        ]  # fmt: skip
        if case == "delayed":
            command.append("--with-scheduler")
        return [command] * (8 if case in ("priority", "crash") else processes)

    def _options(self, job: str) -> dict[str, Any]:
        return {"result_ttl": 0, "retry": Retry(max=3)}

    def send(self, job: str, payload: dict[str, Any], *, urgent: bool = False, delay_ms: int = 0) -> None:
        queue = self.queues[urgent]
        if delay_ms:
            queue.enqueue_in(timedelta(milliseconds=delay_ms), FUNCTIONS[job], payload, **self._options(job))
        else:
            queue.enqueue(FUNCTIONS[job], payload, **self._options(job))

    def send_many(self, job: str, payloads: Sequence[dict[str, Any]]) -> None:
        options = self._options(job)
        self.queues[0].enqueue_many([Queue.prepare_data(FUNCTIONS[job], (one,), **options) for one in payloads])
