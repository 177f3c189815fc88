"""Jobs that stop at a gate, so that a test sees in which order they begin."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import fourlane
from fourlane.worker.loop.loop import Loop
from tests.servers import eventually


class Gate:
    """Jobs that say that they began, and end when they are let."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let = threading.Semaphore(0)

    def run(self, name: str) -> None:
        self.begun.append(name)
        assert self.let.acquire(timeout=20)

    def step(self) -> str:
        """Let one end, and tell which one began in its place."""
        before = len(self.begun)
        self.let.release()
        eventually(lambda: len(self.begun) > before)
        return self.begun[before]


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.let.release(10_000)


def declare(gate: Gate, service: str, tier: str, **options: Any) -> fourlane.tasks.task.Task[[str], None]:
    return fourlane.task(name=f"{service}-{tier}", service=service, tier=tier, **options)(gate.run)  # type: ignore[no-any-return]


def has_heard(loop: Loop, service: str, tiers: str) -> bool:
    """The worker knows that these tiers of the service may have jobs."""
    return any(known.name == service and known.tiers.maybe >= set(tiers) for known in loop.services)
