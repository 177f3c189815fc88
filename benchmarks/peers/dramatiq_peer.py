"""dramatiq with its RedisBroker and its default middleware."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks import jobs
from benchmarks.peers.base import Peer, module

__all__ = ["ServedPeer"]

broker = RedisBroker(url=os.environ["BENCH_REDIS_URL"])  # type: ignore[no-untyped-call]
dramatiq.set_broker(broker)


def _actor(name: str, priority: int = 100) -> Any:
    declare = dramatiq.actor(actor_name=name, priority=priority)
    return declare(getattr(jobs, name.removesuffix("_urgent")))


ACTORS = {name: _actor(name) for name in ("noop", "sleep", "stamp", "hold")}
ACTORS["stamp_urgent"] = _actor("stamp_urgent", 0)


class ServedPeer(Peer):
    name = "dramatiq"
    package = "dramatiq"
    acknowledged = "after the run; a dead worker's jobs return after 60 s, when chance has a worker look"
    settings = "dramatiq MODULE --processes N --threads 8; defaults; urgent: the actor's priority=0 before 100"
    tiers = True

    def commands(self, case: str, processes: int) -> list[list[str]]:
        return [module("dramatiq", "benchmarks.peers.dramatiq_peer", "--processes", str(processes), "--threads", "8")]

    def send(self, job: str, payload: dict[str, Any], *, urgent: bool = False, delay_ms: int = 0) -> None:
        actor = ACTORS[job + "_urgent" if urgent else job]
        if delay_ms:
            actor.send_with_options(args=(payload,), delay=delay_ms)
        else:
            actor.send(payload)
