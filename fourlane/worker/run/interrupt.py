"""How an error is raised inside a function that runs: which interrupt may be sent, how it arrives, what it meant."""

from __future__ import annotations

import asyncio
import ctypes

from dramatiq.middleware import Shutdown

from fourlane.errors import Cancelled
from fourlane.worker.run.run import Run

__all__ = ["may_interrupt", "meaning_of", "raise_in_thread", "take_back"]


def may_interrupt(run: Run, kind: type[BaseException]) -> bool:
    """Once is enough, but a stop leaves a job its grace, and a cancel ends that."""
    return run.interrupted is None or (run.interrupted is Shutdown and kind is Cancelled)


def meaning_of(run: Run, raised: BaseException) -> BaseException:
    """What an interrupt meant, which reaches a coroutine as a cancelling."""
    if run.interrupted is not None and isinstance(raised, asyncio.CancelledError):
        return run.interrupted()
    return raised


def raise_in_thread(thread: int, kind: type[BaseException]) -> None:
    """It arrives when the thread next executes Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


def take_back(thread: int) -> None:
    """What was sent to the thread and has not arrived."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
