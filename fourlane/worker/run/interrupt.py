"""How an error is raised inside a function that runs: which interrupt may be sent, how it arrives, what it meant."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
import time
from typing import Final

from dramatiq.middleware import Shutdown

from fourlane.errors import Cancelled
from fourlane.worker.run.run import Run

__all__ = ["may_interrupt", "meaning_of", "raise_in_thread", "take_back"]

_STARTS_SECONDS: Final = 1.0


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
    until = time.monotonic() + _STARTS_SECONDS
    while _starts_a_thread(thread) and time.monotonic() < until:
        time.sleep(0.001)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


def _starts_a_thread(thread: int) -> bool:
    """CPython has a new thread under its parent's number for a moment: it would get the error, end without a word, and
    the parent would wait for its begin for ever."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        if frame.f_code.co_name == "start":
            return True
        frame = frame.f_back
    return False


def take_back(thread: int) -> None:
    """What was sent to the thread and has not arrived."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
