"""A broker on the shared server, and schedulers that run in threads of the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from fourlane.queues.broker import RedisBroker
from fourlane.queues.store import Store
from fourlane.scheduler.ticker import Scheduler

RunScheduler = Callable[[], Scheduler]


@pytest.fixture
def store(broker: RedisBroker) -> Store:
    return broker.store


@pytest.fixture
def run_scheduler(store: Store) -> Iterator[RunScheduler]:
    """Starts a scheduler; all stop with the test."""
    started: list[tuple[Scheduler, threading.Thread]] = []

    def run() -> Scheduler:
        scheduler = Scheduler(store)
        thread = threading.Thread(target=scheduler.run, name=f"scheduler-{len(started)}", daemon=True)
        thread.start()
        started.append((scheduler, thread))
        return scheduler

    yield run
    for scheduler, _ in started:
        scheduler.stop()
    for _, thread in started:
        thread.join(10)
        assert not thread.is_alive(), "the scheduler did not stop"
