"""Says what each slot of a worker process does now, for SIGUSR1."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import time
import traceback

from fourlane.worker.executor import Executor
from fourlane.worker.run import Run

__all__ = ["show"]

log = logging.getLogger("fourlane.worker")


def show(executor: Executor) -> None:
    """Log the job and the stack of every slot that is busy, and of every coroutine that runs."""
    frames = sys._current_frames()
    busy = [(slot, run) for slot, run in enumerate(executor.busy) if run is not None]
    coroutines = list(executor.async_runs.values())
    log.info("stacks: %d of %d slot(s) busy, %d coroutine(s)", len(busy), executor.slots, len(coroutines))
    for slot, run in busy:
        frame = frames.get(run.thread)
        stack = "".join(traceback.format_stack(frame)) if frame else ""
        log.info("slot=%d %s\n%s", slot, _words(run), stack)
    for run in coroutines:
        log.info("coroutine %s\n%s", _words(run), _stack_of(run.task))


def _words(run: Run) -> str:
    seconds = time.monotonic() - run.started if run.started else 0.0
    return f"job={run.id} task={run.plan.name} since_seconds={seconds:.1f}"


def _stack_of(task: asyncio.Task[None] | None) -> str:
    text = io.StringIO()
    if task is not None:
        task.print_stack(limit=10, file=text)
    return text.getvalue()
