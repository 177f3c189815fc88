"""What a failed job leaves in its process: nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref
from typing import Any

import dramatiq
import pytest
from dramatiq.middleware import Middleware, SkipMessage

from fourlane import job
from fourlane.names import Queue, Tier
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import task
from fourlane.telling import Ends, Observer
from fourlane.worker.loop import loop
from tests.conftest import Hear
from tests.servers import eventually
from tests.worker.conftest import RunWorker


class Waits(Middleware):
    """Is told of jobs, and may keep something by the thread: that waits for a coroutine."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, str]] = []

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        self.heard.append((result, type(exception).__name__))


class Leaves(Waits):
    """Is told of jobs, and frees the thread while a coroutine is on the event loop."""

    keeps_thread = False


@pytest.mark.parametrize("told", [None, Waits, Leaves])
@pytest.mark.parametrize(
    "kind",
    [
        *("plain", "async", "handed over", "actor", "async actor", "expected", "retried", "called back"),
        *("sync timed out", "timed out", "cancelled", "stopped", "skipped"),
    ],
)
@pytest.mark.parametrize("observed", [False, True])
def test_a_failed_job_lets_go_of_all_that_it_had(
    broker: RedisBroker,
    kind: str,
    told: type[Waits] | None,
    observed: bool,
    hear: Hear,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At once, not when the garbage collector comes by: twenty megabytes in each of sixty jobs are a gigabyte."""
    caplog.set_level(logging.CRITICAL, logger="fourlane.worker")  # for caplog keeps the errors that it hears of
    had: list[weakref.ref[Any]] = []

    class Heavy: ...

    def fail() -> None:
        heavy = Heavy()
        had.append(weakref.ref(heavy))
        raise ValueError("its own")

    async def fail_later() -> None:
        fail()

    def hand_over() -> Any:
        return fail_later()

    async def linger() -> None:
        heavy = Heavy()
        had.append(weakref.ref(heavy))
        await asyncio.sleep(30)

    def linger_here() -> None:
        heavy = Heavy()
        had.append(weakref.ref(heavy))
        while True:
            time.sleep(0.01)

    class Closed(Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            try:
                fail()
            except ValueError as error:
                raise SkipMessage("closed") from error

    if told is not None:
        broker.add_middleware(told())
    if kind == "skipped":
        broker.add_middleware(Closed())
    dramatiq.actor(actor_name="hear")(lambda *said: None)
    sent: Any = {
        "plain": lambda: task(max_retries=0)(fail),
        "async": lambda: task(max_retries=0)(fail_later),
        "handed over": lambda: task(max_retries=0)(hand_over),
        "actor": lambda: dramatiq.actor(max_retries=0)(fail),
        "async actor": lambda: dramatiq.actor(max_retries=0)(fail_later),
        "expected": lambda: dramatiq.actor(throws=ValueError)(fail),
        "retried": lambda: dramatiq.actor(max_retries=2, min_backoff=1, max_backoff=1)(fail),
        "called back": lambda: dramatiq.actor(max_retries=0, on_failure="hear")(fail_later),
        "sync timed out": lambda: dramatiq.actor(max_retries=0, time_limit=20)(linger_here),
        "timed out": lambda: dramatiq.actor(max_retries=0, time_limit=20)(linger),
        "cancelled": lambda: task(linger),
        "stopped": lambda: dramatiq.actor(max_retries=0, notify_shutdown=True)(linger),
        "skipped": lambda: dramatiq.actor(fail),
    }[kind]()
    if observed:
        hear(Unmoved())
    queues = [Queue("default", tier) for tier in Tier]
    worker = loop.Loop(broker, queues, name="w", slots=2, grace_seconds=0.05)
    thread = threading.Thread(target=worker.run, daemon=True)
    gc.disable()
    try:
        sent.send()
        thread.start()
        eventually(lambda: len(had) == (3 if kind == "retried" else 1))
        if kind == "cancelled":
            worker.told_cancelled({job.id_of_entry(run.leased.entry) for run in worker.executor.running()})
        if kind == "stopped":
            worker.stop()
        else:
            broker.join("default", timeout=5_000)
        eventually(lambda: not any(ref() for ref in had))
    finally:
        gc.enable()
        worker.stop()
        thread.join(5)


@pytest.mark.parametrize("told", [Waits, Leaves])
@pytest.mark.parametrize("kind", ["async", "returned", "timed out"])
def test_middleware_hears_of_no_result_of_a_failed_coroutine(
    broker: RedisBroker, run_worker: RunWorker, kind: str, told: type[Waits]
) -> None:
    async def fail(seconds: float = 0.0) -> None:
        await asyncio.sleep(seconds)
        raise ValueError("its own")

    hears = told()
    broker.add_middleware(hears)
    sent: Any = {
        "async": lambda: dramatiq.actor(max_retries=0)(fail),
        "returned": lambda: dramatiq.actor(max_retries=0)(lambda: fail()),
        "timed out": lambda: dramatiq.actor(max_retries=0, time_limit=20)(lambda: fail(30)),
    }[kind]()
    sent.send()
    run_worker(broker)
    eventually(lambda: hears.heard)
    assert hears.heard == [(None, "TimeLimitExceeded" if kind == "timed out" else "ValueError")]


class Unmoved(Observer):
    """Makes nothing of what it hears."""

    def turned(self, ends: Ends) -> None: ...
