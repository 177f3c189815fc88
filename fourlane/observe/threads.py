"""Threads that a job starts belong to it, as coroutines and ``asyncio.to_thread`` do already."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial, wraps
from multiprocessing.pool import ThreadPool
from typing import Any, Final

from fourlane.tasks.context import running

__all__ = ["follow_threads", "run_of"]

# A thread of a pool serves many jobs: there each call belongs to the job that submitted it.
_OF_POOLS: Final = ("concurrent.futures.thread", "multiprocessing.pool")
_OURS: Final = "fourlane-"
_RUN: Final = "fourlane_run"
_SUBMIT: Final = ("apply_async", "_map_async", "imap", "imap_unordered")  # map, starmap and apply call these


def follow_threads() -> None:
    """Let what is known of a job be known in the threads that it starts, and in what it hands to thread pools."""
    if getattr(threading.Thread.start, "follows", False):
        return
    start = threading.Thread.start

    def start_in_context(self: threading.Thread) -> None:
        run = running.get()
        if run is not None and not _serves_many(self):
            setattr(self, _RUN, run)
            self.run = partial(copy_context().run, self.run)  # type: ignore[method-assign]
        start(self)

    start_in_context.follows = True  # type: ignore[attr-defined]
    threading.Thread.start = start_in_context  # type: ignore[method-assign]
    _follow(concurrent.futures.ThreadPoolExecutor, "submit")
    for name in _SUBMIT:
        _follow(ThreadPool, name)


def run_of(thread: threading.Thread | None) -> Any:
    """Of the job that started it, also when it has ended; None: no job did."""
    return getattr(thread, _RUN, None)


def _serves_many(thread: threading.Thread) -> bool:
    module = getattr(getattr(thread, "_target", None), "__module__", "")
    return module in _OF_POOLS or thread.name.startswith(_OURS)


def _follow(pool: type, name: str) -> None:
    submit = getattr(pool, name)

    @wraps(submit)
    def submit_in_context(self: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        if running.get() is not None:
            function = partial(_run, copy_context(), function)
        return submit(self, function, *args, **kwargs)

    setattr(pool, name, submit_in_context)


def _run(context: Context, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return context.copy().run(function, *args, **kwargs)  # two threads cannot be in one context at once
