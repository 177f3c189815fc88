"""Celery on Redis, acknowledging late."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

from benchmarks import jobs
from benchmarks.peers.base import Peer, module

__all__ = ["ServedPeer"]

SHORT_JOBS = os.environ["BENCH_CASE"] in ("drain", "drain2", "enqueue")

app = Celery("bench", broker=os.environ["BENCH_REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=64 if SHORT_JOBS else 1,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"queue_order_strategy": "priority"},
)
TASKS = {name: app.task(name=name)(getattr(jobs, name)) for name in ("noop", "sleep", "stamp", "hold")}


class ServedPeer(Peer):
    name = "celery"
    package = "celery"
    acknowledged = "after the run (acks_late); a dead worker's jobs return after visibility_timeout, 1 hour"
    settings = (
        "celery worker --pool threads --concurrency 8 --without-gossip --without-mingle, N times; acks_late, results "
        "ignored, prefetch multiplier 64 for the no-op jobs, else 1; urgent: message priority 0 before 9"
    )
    tiers = True

    def commands(self, case: str, processes: int) -> list[list[str]]:
        command = module(
            "celery", "-A", "benchmarks.peers.celery_peer", "worker", "--pool", "threads", "--concurrency", "8",
            "--without-gossip", "--without-mingle", "--loglevel", "WARNING",
        )  # fmt: skip
        return [[*command, "--hostname", f"bench{number}@localhost"] for number in range(processes)]

    def send(self, job: str, payload: dict[str, Any], *, urgent: bool = False, delay_ms: int = 0) -> None:
        options: dict[str, Any] = {"countdown": delay_ms / 1000} if delay_ms else {}
        if os.environ["BENCH_CASE"] == "priority":
            options["priority"] = 0 if urgent else 9
        TASKS[job].apply_async((payload,), **options)
