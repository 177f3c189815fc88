"""Jobs on their way to an end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fourlane import State, job
from fourlane.tasks.task import EnqueuedJob
from fourlane.worker.loop import loop
from tests.servers import eventually


def dead(sent: EnqueuedJob[Any], timeout: float = 5.0) -> job.JobInfo:
    """What is known of it once it is a dead letter."""
    eventually(lambda: sent.status() is State.DEAD, timeout)
    return sent.info()


def idle(worker: loop.Loop) -> bool:
    """Nothing runs there, and every slot is free."""
    executor = worker.executor
    return executor.running() == [] and executor.free()[0] == executor.slots


def raises(error: BaseException) -> Callable[[], None]:
    """A function for a task that fails with it."""

    def run() -> None:
        raise error

    return run
