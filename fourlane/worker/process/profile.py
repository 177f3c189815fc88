"""Where a worker process's time goes, by task and by function: ``fourlane worker --profile``.

A thread looks at all stacks 50 times a second. Each look counts one line for each slot, for the event loop and for the
worker's own loop: who it worked for, then the functions from the outermost in. That is the form of collapsed stacks,
which flame graph tools read. It shows wall time: a stack that waits is counted like one that computes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Final

from fourlane.worker.run.executor import Executor

__all__ = ["Profile"]

log = logging.getLogger("fourlane.worker")

_EVERY_SECONDS: Final = 0.02
_DEEPEST: Final = 60
_MOST_STACKS: Final = 20_000
_SHOWN: Final = 5


class Profile:
    """Samples one process from `start` on."""

    def __init__(self, executor: Executor, folder: Path) -> None:
        self.executor = executor
        self.path = folder / f"fourlane-profile-{os.getpid()}.txt"
        self.stacks: Counter[str] = Counter()
        self.looks = 0
        self._main = threading.main_thread().ident
        self._over = threading.Event()
        self._lock = threading.Lock()

    def start(self) -> None:
        threading.Thread(target=self._run, name="fourlane-profile", daemon=True).start()

    def stop(self) -> None:
        self._over.set()
        self.write()

    def write(self) -> None:
        """Write what was seen so far, and log the summary."""
        with self._lock:
            lines = [f"{stack} {number}\n" for stack, number in self.stacks.most_common()]
            looks = self.looks
        try:
            self.path.write_text("".join(lines))
        except OSError as error:
            log.warning("the profile cannot be written to %s: %s", self.path, error.strerror)
            return
        log.info("profile: %s, %d looks\n%s", self.path, looks, self._summary(looks))

    def _run(self) -> None:
        while not self._over.wait(_EVERY_SECONDS):
            self.look()

    def look(self) -> None:
        """Count what every thread of the worker does now."""
        frames = sys._current_frames()
        executor = self.executor
        seen: list[str] = []
        for run, thread in zip(list(executor.busy), executor.threads, strict=False):
            frame = frames.get(thread.ident or 0)
            who = "slots;idle" if run is None else f"slots;task {run.plan.name}"
            seen.append(who if run is None or frame is None else f"{who};{_stack_of(frame)}")
        loop = executor.loop
        frame = frames.get(executor.loop_thread)
        if loop is not None and frame is not None:
            task = asyncio.current_task(loop)
            name = next((run.plan.name for run in list(executor.async_runs.values()) if run.task is task), "")
            seen.append(f"event loop;task {name};{_stack_of(frame)}" if task and name else "event loop;idle")
        if self._main in frames:
            seen.append(f"worker's loop;{_stack_of(frames[self._main])}")
        with self._lock:
            self.looks += 1
            for stack in seen:
                if stack not in self.stacks and len(self.stacks) >= _MOST_STACKS:
                    stack = "other stacks"
                self.stacks[stack] += 1

    def _summary(self, looks: int) -> str:
        """The tasks that took most, in slots busy on average, and in which function."""
        tasks: Counter[str] = Counter()
        inner: dict[str, Counter[str]] = {}
        with self._lock:
            for stack, number in self.stacks.items():
                words = stack.split(";")
                who = ";".join(words[:2]) if words[0] != "worker's loop" else words[0]
                tasks[who] += number
                inner.setdefault(who, Counter())[words[-1]] += number
        lines = []
        for who, number in tasks.most_common():
            of_who = ", ".join(f"{place} {n / number:.0%}" for place, n in inner[who].most_common(_SHOWN))
            lines.append(f"{number / max(1, looks):6.2f} × {who.replace(';', ': ')} ({of_who})")
        return "\n".join(lines)


def _stack_of(frame: FrameType) -> str:
    names: list[str] = []
    here: FrameType | None = frame
    while here is not None and len(names) < _DEEPEST:
        code = here.f_code
        names.append(f"{code.co_qualname} ({'/'.join(Path(code.co_filename).parts[-2:])}:{code.co_firstlineno})")
        here = here.f_back
    return ";".join(reversed(names)).replace("\n", " ")
