"""What the two organizations have done for them: a module of ``fourlane worker``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import fourlane
from benchmarks.hostile.parties import BIRD
from fourlane.webhooks import Event, on_webhook

_folder = Path(os.environ["HOSTILE_FOLDER"])


def _note(file: str, name: str) -> None:
    """A line of the moment, in one write, so that processes do not mix theirs."""
    with (_folder / file).open("ab", buffering=0) as lines:
        lines.write(f"{time.time()} {name}\n".encode())


@fourlane.task(service="images", tier="P0", result_ttl_ms=600_000, max_retries=1)
def thumb(name: str) -> dict[str, Any]:
    """Quick and urgent. Bird's are measured."""
    job = fourlane.current_job()
    assert job is not None
    if job.tenant == str(BIRD.organization):
        _note("started", name)
        job.log(f"thumb of {name}")
    time.sleep(0.005)
    return {"of": name, "tenant": job.tenant}


@fourlane.task(service="images", tier="P1", max_retries=1)
def large(name: str) -> None:
    time.sleep(0.25)


@fourlane.task(service="images", tier="P1", max_retries=2, backoff=fourlane.Backoff(100, 400))
def explode(name: str) -> None:
    raise RuntimeError(f"{name} " * 1_000)


@fourlane.task(service="images", tier="P1", timeout_ms=1_000, max_retries=1, backoff=fourlane.Backoff(100, 100))
def stall(name: str) -> None:
    while True:
        time.sleep(0.01)


@fourlane.task(service="images", tier="P1", result_ttl_ms=10_000, max_retries=0)
def swell(name: str) -> str:
    return "x" * 500_000


@on_webhook("stripe", "invoice.*")
def paid(event: Event) -> None:
    _note("received", event.id)
