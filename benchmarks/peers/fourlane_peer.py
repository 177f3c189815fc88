"""Fourlane: the real worker command with default settings, all promises on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import fourlane
from benchmarks import jobs
from benchmarks.peers.base import Peer, module

__all__ = ["ServedPeer"]

noop = fourlane.task(name="noop", tier="P2", service="bench")(jobs.noop)
sleep = fourlane.task(name="sleep", tier="P2", service="bench")(jobs.sleep)
stamp = fourlane.task(name="stamp", tier="P2", service="bench")(jobs.stamp)
hold = fourlane.task(name="hold", tier="P2", service="bench")(jobs.hold)

TASKS = {"noop": noop, "sleep": sleep, "stamp": stamp, "hold": hold}


class ServedPeer(Peer):
    name = "fourlane"
    package = "fourlane"
    acknowledged = "after the run, fenced; the leases of a silent worker return"
    settings = "fourlane worker MODULE --slots 8 --processes N; defaults otherwise"
    bulk = True
    tiers = True

    def __init__(self, url: str) -> None:
        super().__init__(url)
        for name in [n for n in os.environ if n.startswith("FOURLANE_")]:
            del os.environ[name]
        os.environ["REDIS_URL"] = url

    def commands(self, case: str, processes: int) -> list[list[str]]:
        tasks = "benchmarks.peers.fourlane_async" if case == "async" else "benchmarks.peers.fourlane_peer"
        return [module("fourlane.cli", "worker", tasks, "--slots", "8", "--processes", str(processes))]

    def env(self, case: str) -> dict[str, str]:
        return super().env(case) | {"REDIS_URL": self.url}

    def send(self, job: str, payload: dict[str, Any], *, urgent: bool = False, delay_ms: int = 0) -> None:
        if urgent or delay_ms:
            TASKS[job].send_with_options(args=(payload,), tier="P0" if urgent else None, delay=delay_ms or None)
        else:
            TASKS[job].send(payload)

    def send_many(self, job: str, payloads: Sequence[dict[str, Any]]) -> None:
        TASKS[job].send_many([(payload,) for payload in payloads])
