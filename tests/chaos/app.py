"""The application under storm: tasks that write into the ledger what they do. CHAOS_VERSION says which deploy it is."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fourlane
from fourlane.errors import Cancelled, LeaseLost
from fourlane.queues.limit import Limit
from fourlane.tasks.context import CurrentJob
from fourlane.tasks.task import Task
from tests.chaos import ledger
from tests.chaos.workload import BURST, CONCURRENCY, KINDS, RATE, TICKS, versions_with

FOLDER = Path(os.environ[ledger.FOLDER])
VERSION = os.environ.get("CHAOS_VERSION", "all")
KEEP_RESULT_MS = 120_000

book = ledger.Ledger(FOLDER / "ledger")
runs = itertools.count(1)
tasks: dict[str, Task[Any, Any]] = {}


class AsPlanned(Exception):
    """This attempt was to fail."""


@contextmanager
def recorded(n: str) -> Iterator[CurrentJob]:
    """A run, from its start to whatever ends it."""
    job = fourlane.current_job()
    assert job is not None
    me: dict[str, Any] = {"n": n, "id": job.id, "kind": job.task, "attempt": job.attempt, "run": next(runs)}
    book.write("start", **me, text=f"{job.schedule}@{job.scheduled_for_ms}" if job.schedule else "")
    try:
        yield job
    except (Cancelled, LeaseLost, asyncio.CancelledError):
        what = {"shutdown": "given-back", "cancelled": "cancelled"}.get(job.cancel_token.reason, "left")
        book.write(what, **me, text=job.cancel_token.reason)
        raise
    except BaseException as error:
        book.write("fail", **me, text=type(error).__name__)
        raise
    book.write("end", **me)


def chaotic(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Declare a kind of workload.py, in those versions that have it."""

    def declare(function: Callable[..., Any]) -> Any:
        kind = KINDS[function.__name__]
        if VERSION not in versions_with(kind.name):
            return function
        tasks[kind.name] = fourlane.task(service=kind.service, tier=kind.tier, **options)(function)
        return tasks[kind.name]

    return declare


SHORT = fourlane.Backoff(50, 200)


@chaotic()
def probe(n: str) -> None:
    with recorded(n):
        pass


@chaotic()
def quick(n: str) -> None:
    with recorded(n):
        pass


@chaotic()
def outboxed(n: str) -> None:
    with recorded(n):
        pass


@chaotic()
def later(n: str) -> None:
    with recorded(n):
        pass


@chaotic()
def alone(n: str) -> None:
    with recorded(n):
        pass


@chaotic()
def condemned_later(n: str) -> None:
    with recorded(n):
        pass


@chaotic()
def old_name(n: str) -> None:
    with recorded(n):
        pass


@chaotic()
def new_name(n: str) -> None:
    with recorded(n):
        pass


@chaotic()
def added(n: str) -> None:
    with recorded(n):
        pass


@chaotic()
def nap(n: str, seconds: float) -> None:
    """Ends when it is told to, as a good task does."""
    with recorded(n) as job:
        job.cancel_token.wait(seconds)
        job.cancel_token.raise_if_set()


@chaotic()
def stubborn(n: str, seconds: float) -> None:
    """Hears nothing of a stop."""
    with recorded(n):
        time.sleep(seconds)


@chaotic()
def grind(n: str, seconds: float) -> None:
    with recorded(n):
        time.sleep(seconds)


@chaotic()
async def async_grind(n: str, seconds: float) -> None:
    with recorded(n):
        await asyncio.sleep(seconds)


@chaotic()
async def async_nap(n: str, seconds: float) -> None:
    with recorded(n):
        await asyncio.sleep(seconds)


@chaotic()
async def condemned(n: str, seconds: float) -> None:
    with recorded(n):
        await asyncio.sleep(seconds)


@chaotic(result_ttl_ms=KEEP_RESULT_MS)
def answer(n: str) -> str:
    with recorded(n):
        return n


@chaotic(result_ttl_ms=KEEP_RESULT_MS)
async def async_answer(n: str) -> str:
    with recorded(n):
        return n


@chaotic(max_retries=KINDS["flaky"].fails, backoff=SHORT)
def flaky(n: str) -> None:
    with recorded(n) as job:
        if job.attempt <= KINDS["flaky"].fails:
            raise AsPlanned


@chaotic(max_retries=KINDS["doomed"].fails - 1, backoff=SHORT)
def doomed(n: str) -> None:
    """Fails until somebody has repaired what it needs, and replays it."""
    with recorded(n) as job:
        if not (FOLDER / "repaired" / job.id).exists():
            raise AsPlanned


@chaotic()
def deadly(n: str) -> None:
    with recorded(n):
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(10)


@chaotic(limit=Limit(concurrency=CONCURRENCY))
def narrow(n: str, seconds: float) -> None:
    with recorded(n):
        time.sleep(seconds)


@chaotic(limit=Limit(rate=RATE, per_ms=1_000, burst=BURST))
def measured(n: str) -> None:
    with recorded(n):
        pass


@fourlane.every(seconds=TICKS[0].seconds, name=TICKS[0].name, overlap="allow", catch_up="all")
@fourlane.task(service="solo")
def steady() -> None:
    with recorded(""):
        pass


@fourlane.every(seconds=TICKS[1].seconds, name=TICKS[1].name)
@fourlane.task(service="front")
def skipping() -> None:
    with recorded(""):
        pass
