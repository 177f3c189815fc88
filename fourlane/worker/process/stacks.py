"""Says what each slot of a worker process does now, for SIGUSR1."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from types import FrameType
from typing import Any, Final

from fourlane.worker.run.executor import Executor
from fourlane.worker.run.run import Run

__all__ = ["show"]

log = logging.getLogger("fourlane.worker")

_DEEPEST: Final = 50


def show(executor: Executor) -> None:
    """Log the job and the stack of every slot that is busy, and of every coroutine that runs."""
    frames = sys._current_frames()
    busy = [(slot, run) for slot, run in enumerate(executor.busy) if run is not None]
    coroutines = list(executor.async_runs.values())
    log.info("stacks: %d of %d slot(s) busy, %d coroutine(s)", len(busy), executor.slots, len(coroutines))
    log.info("the worker's loop\n%s", _stack_of_thread(frames, threading.main_thread().ident))
    for slot, run in busy:
        log.info("slot=%d %s\n%s", slot, _words(run), _stack_of_thread(frames, run.thread) + _stack_of(run.task))
    for run in coroutines:
        log.info("coroutine %s\n%s", _words(run), _stack_of(run.task))


def _words(run: Run) -> str:
    seconds = time.monotonic() - run.started if run.started else 0.0
    return f"job={run.id} task={run.plan.name} since_seconds={seconds:.1f}"


def _stack_of_thread(frames: dict[int, FrameType], ident: int | None) -> str:
    frame = frames.get(ident or 0)
    return "".join(traceback.format_stack(frame)) if frame else ""


def _stack_of(task: asyncio.Task[None] | None) -> str:
    """Where a coroutine waits. Its task knows only the outermost function, so the chain of awaits is followed."""
    frames: list[tuple[FrameType, int]] = []
    waiting: Any = task.get_coro() if task is not None else None
    while waiting is not None and len(frames) < _DEEPEST:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        waiting = getattr(waiting, "cr_await", None) or getattr(waiting, "gi_yieldfrom", None)
    return "".join(traceback.StackSummary.extract(iter(frames)).format())
