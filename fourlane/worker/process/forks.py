"""Functions that middleware wants to run beside a worker, each in a process of its own (``Middleware.forks``).

Prometheus' server of metrics is one. ``python -m fourlane.worker.forks MODULE:FUNCTION [FOLDER]...`` is such a process.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Final

import dramatiq

from fourlane.worker.process import host

__all__ = ["Forks", "forks_of"]

log = logging.getLogger("fourlane.worker")

_PR_SET_PDEATHSIG: Final = 1
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 1.0


def forks_of(broker: dramatiq.Broker) -> list[str]:
    """The functions that a broker's middleware names, as ``module:function``."""
    return [f"{fork.__module__}:{fork.__name__}" for m in broker.middleware for fork in m.forks]


class Forks:
    """Runs them for as long as the first process of a worker lives; one that ends is begun again."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._keep, args=[path], name="fourlane-fork", daemon=True) for path in paths
        ]
        for thread in self._threads:
            thread.start()

    def _keep(self, path: str) -> None:
        """In a thread that lives as long as this process does: its end would be its children's (PDEATHSIG)."""
        pause = _FIRST_PAUSE_SECONDS
        folders = [folder for folder in sys.path if folder]
        while not self._stopping.is_set():
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", "fourlane.worker.process.forks", path, *folders], stdin=subprocess.DEVNULL
                )
            except OSError as error:
                why = str(error)
            else:
                why = self._wait(process)
            if not self._stopping.wait(pause):
                log.warning("%s, which middleware runs beside, has ended (%s); starting it again", path, why)
            pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause)

    def _wait(self, process: subprocess.Popen[bytes]) -> str:
        while not self._stopping.wait(0.2):
            if process.poll() is not None:
                return f"exit code {process.returncode}"
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        return "stopped"

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(2 * _STOP_SECONDS)


def main() -> None:
    """Run one function, as the stop of its worker ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the worker tells
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    path, *folders = sys.argv[1:]
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    host.write_by_line()
    module, _, name = path.partition(":")
    sys.exit(getattr(importlib.import_module(module), name)())


if __name__ == "__main__":
    main()
