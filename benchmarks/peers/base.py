"""What the benchmark asks of every peer."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, ClassVar

from benchmarks.jobs import PAYLOAD

__all__ = ["BULK", "Peer"]

BULK = 1_000  # jobs in one bulk call


class Peer:
    """One job queue: how its jobs are sent and its workers started.

    The jobs are those of benchmarks/jobs.py, by name: noop, sleep, stamp, hold.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    """Its distribution; the version is read from it."""
    acknowledged: ClassVar[str]
    """When a job is taken off the queue: what becomes of it when its worker dies."""
    settings: ClassVar[str]
    """What differs from its defaults, and why."""
    bulk: ClassVar[bool] = False
    tiers: ClassVar[bool] = False
    delays: ClassVar[bool] = True

    def __init__(self, url: str) -> None:
        self.url = url

    def version(self) -> str:
        return version(self.package)

    def commands(self, case: str, processes: int) -> list[list[str]]:
        """The worker commands for a case, with so many processes of 8 slots each where the peer has slots."""
        raise NotImplementedError

    def env(self, case: str) -> dict[str, str]:
        """What its workers find in their environment."""
        return {"BENCH_REDIS_URL": self.url, "BENCH_CASE": case}

    def send(self, job: str, payload: dict[str, Any], *, urgent: bool = False, delay_ms: int = 0) -> None:
        """Enqueue one job. ``urgent`` goes before all others; without it, behind the urgent ones."""
        raise NotImplementedError

    def send_many(self, job: str, payloads: Sequence[dict[str, Any]]) -> None:
        """Enqueue many in one call, where there is such a call (``bulk``)."""
        raise NotImplementedError

    def close(self) -> None:
        """Drop connections."""

    # How the benchmark uses them. A peer that is not driven from Python, or not synchronously, has its own.

    def fill(self, job: str, most: int, seconds: float, *, delay_ms: int = 0, least: int = 0) -> int:
        """Enqueue jobs until there are ``most``, or ``seconds`` have passed and there are ``least``."""
        sent, deadline = 0, time.monotonic() + seconds
        while sent < most and (sent < least or time.monotonic() < deadline):
            if self.bulk and not delay_ms:
                step = min(BULK, most - sent)
                self.send_many(job, [PAYLOAD] * step)
            else:
                step = 1
                self.send(job, PAYLOAD, delay_ms=delay_ms)
            sent += step
        return sent

    def one_at_a_time(self, seconds: float) -> float:
        """Jobs a second that one producer enqueues, each in its own call."""
        for _ in range(100):
            self.send("noop", PAYLOAD)
        sent, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            self.send("noop", PAYLOAD)
            sent += 1
        return sent / (time.monotonic() - began)

    def in_bulk(self, seconds: float) -> float:
        """Jobs a second in bulk calls of 1,000."""
        payloads = [PAYLOAD] * BULK
        self.send_many("noop", payloads)
        sent, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            self.send_many("noop", payloads)
            sent += BULK
        return sent / (time.monotonic() - began)

    def send_stamp(self, *, urgent: bool = False, delay_ms: int = 0) -> None:
        """Send a job that reports how late it begins."""
        at = time.monotonic_ns() + delay_ms * 1_000_000
        self.send("stamp", PAYLOAD | {"at": at}, urgent=urgent, delay_ms=delay_ms)


def module(*words: str) -> list[str]:
    """A command of this Python: ``python -m WORDS``."""
    return [sys.executable, "-m", *words]
