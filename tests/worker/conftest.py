"""A broker on the shared server, and loops that run its jobs in threads of the test."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from fourlane.names import Queue, Tier
from fourlane.observe.lines import Lines
from fourlane.queues.broker import RedisBroker
from fourlane.worker.loop.loop import Loop
from fourlane.worker.table import Table
from tests.conftest import Hear

RunWorker = Callable[..., Loop]


@pytest.fixture
def run_worker(hear: Hear) -> Iterator[RunWorker]:
    """Starts a loop: ``run_worker(broker, slots=2)``. All stop with the test."""
    started: list[tuple[Loop, threading.Thread]] = []
    hear(Lines())

    def run(
        broker: RedisBroker,
        *services: str,
        slots: int = 4,
        name: str = "",
        grace_seconds: float = 2.0,
        table: Table | None = None,
        boots: bool = False,
    ) -> Loop:
        """``boots``: middleware hears of it, and all queues of the broker are served, as in a worker process."""
        if boots:
            services = tuple({broker.queue_of(name).service for name in broker.get_declared_queues()})
        queues = [Queue(service, tier) for service in services or ("default",) for tier in Tier]
        name = name or f"w{len(started)}"
        loop = Loop(broker, queues, name=name, slots=slots, grace_seconds=grace_seconds, table=table)
        if boots:
            broker.on_declared = loop.told_declared
            loop.tell_boot()
            broker.emit_after("worker_boot", loop)
        thread = threading.Thread(target=loop.run, name=f"loop-{len(started)}", daemon=True)
        thread.start()
        started.append((loop, thread))
        return loop

    yield run
    for loop, _ in started:
        loop.stop()
    for _, thread in started:
        thread.join(10)
        assert not thread.is_alive(), "the loop did not stop"


@pytest.fixture(params=["uvloop", "asyncio"])
def loop_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The event loop that coroutines run on: once with uvloop, once without."""
    kind: str = request.param
    if kind == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    else:
        pytest.importorskip("uvloop")
    return kind
