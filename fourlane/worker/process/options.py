"""What a supervisor is to run."""

from __future__ import annotations

import msgspec

from fourlane.observe.setup import Observe
from fourlane.queues.opening import Opening

__all__ = ["Options"]


class Options(msgspec.Struct, frozen=True):
    """Plain data. The recycling limits are off at 0."""

    modules: list[str] = []
    queues: list[str] = []
    services: list[str] = []
    processes: int = 1
    slots: int = 8
    concurrency: int = 1000
    grace_seconds: float = 25.0
    log_jobs: bool = False
    profile: bool = False
    recycle_jobs: int = 0
    recycle_seconds: int = 0
    recycle_rss_mb: int = 0
    watch: str = ""
    """The folder whose .py files are watched; empty: none is."""
    opening: Opening | None = None
    scheduler: bool = False
    observe: Observe = Observe()
    hung_seconds: float = 60.0
    """A process that takes no turn for so long, while Redis answers, is ended. An idle one takes one each 25 s."""
    boot_ms: int = 0
    """When this deploy began, by Redis's clock: the youngest deploy's schedules count."""
