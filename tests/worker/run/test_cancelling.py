"""How a running job learns that it was cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from dramatiq.middleware import Shutdown

from fourlane import JobCancelled
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import task
from tests.servers import eventually
from tests.worker.conftest import RunWorker


@pytest.mark.parametrize("kind", ["plain", "async", "told of the stop", "async, told of the stop"])
@pytest.mark.parametrize("first", ["cancel", "stop"])
def test_a_cancel_reaches_a_running_job_while_its_worker_stops(
    broker: RedisBroker, run_worker: RunWorker, kind: str, first: str
) -> None:
    """Those that are told of the stop, and go on, are interrupted once more."""
    heard: list[str] = []
    begun, went_on = threading.Event(), threading.Event()

    def hear(message: dict[str, Any], words: dict[str, Any]) -> None:
        heard.append(words.get("type", "exhausted"))

    def run() -> None:
        begun.set()
        while True:
            try:
                time.sleep(0.01)
            except Shutdown:
                went_on.set()

    async def run_async() -> None:
        begun.set()
        while True:
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                if went_on.is_set() or "told" not in kind:
                    raise
                went_on.set()

    task(name="hear")(hear)
    made: Any = task(name="runs", result_ttl_ms=60_000, on_failure="hear", on_retry_exhausted="hear")(
        run_async if "async" in kind else run
    )
    worker = run_worker(broker, grace_seconds=20.0)
    sent = made.send_with_options(**({"notify_shutdown": True} if "told" in kind else {}))
    assert begun.wait(30)
    sent.cancel()
    if first == "cancel":
        went_on.set()
        worker.told_cancelled({sent.id})
    worker.stop()
    if first == "stop":
        assert "told" not in kind or went_on.wait(30)
        eventually(lambda: all(run.context.cancel_token.reason == "shutdown" for run in worker.executor.running()))
        worker.told_cancelled({sent.id})
    with pytest.raises(JobCancelled, match=r"while it ran$"):
        sent.result(5)
    eventually(lambda: worker.executor.stopping)
    run_worker(broker)
    eventually(lambda: sorted(heard) == ["JobCancelled", "exhausted"])
