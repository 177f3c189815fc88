"""What a supervisor and its worker processes say to each other."""

from __future__ import annotations

import signal
from typing import Final, Protocol

import msgspec

from fourlane.observe.setup import Observe
from fourlane.queues.opening import Opening

__all__ = ["CANNOT_START", "CONTROLLED", "LOOP_FAILED", "BeatHearer", "Spec", "Told"]

CANNOT_START: Final = 78  # EX_CONFIG: starting again would change nothing
LOOP_FAILED: Final = 70  # EX_SOFTWARE
CONTROLLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # signals that the supervisor takes for all


class Spec(msgspec.Struct, frozen=True):
    """What a process needs to know: the first line that it is told."""

    name: str
    modules: list[str]
    queues: list[str]
    services: list[str]
    slots: int
    concurrency: int
    grace_seconds: float
    log_jobs: bool
    table_fd: int
    path: list[str]
    opening: Opening | None = None
    boot_ms: int = 0
    declare: int = 0
    """The last order to declare: this process carries it out when it begins."""
    observe: Observe = Observe()
    metrics_folder: str = ""
    profile: bool = False
    is_first: bool = True
    """Of its worker's processes: it starts what middleware wants to run beside."""


class Told(msgspec.Struct, frozen=True):
    """Each later line."""

    lost: list[tuple[str, str]] = []
    """Services, and the names under which leases were held there."""
    cancelled: list[str] = []
    declare: int = 0
    """An order to declare schedules and limits again; each has a higher number."""


class BeatHearer(Protocol):
    """Who is told in a worker process what a beat was answered, its own or its supervisor's: the loop."""

    def told_lost(self, service: str, name: str) -> None: ...

    def told_cancelled(self, job_ids: set[str]) -> None: ...
