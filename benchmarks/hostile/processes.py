"""Processes of the run: each with a log, and ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.servers import eventually

__all__ = ["ROOT", "Processes"]

ROOT: Final = Path(__file__).parents[2]
_START_SECONDS: Final = 90.0
_END_SECONDS: Final = 40.0


class Processes:
    """Starts and ends them; use in a ``with``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], *, nice: int = 0) -> int:
        """Start one; its process id."""
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*(["nice", "-n", str(nice)] if nice else []), *command],
                cwd=ROOT,
                env={**env, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running[name] = process
        if nice:
            with suppress(OSError):  # where the system shares the processors out among sessions (sched_autogroup)
                Path(f"/proc/{process.pid}/autogroup").write_text(str(nice))
        return process.pid

    def wait_for(self, name: str, words: str) -> None:
        """Until its log has these words."""
        process = self._running[name]
        eventually(lambda: process.poll() is not None or words in self.log(name), _START_SECONDS)
        assert process.poll() is None, f"{name} ended at its start:\n{self.log(name)[-3000:]}"

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def wait(self, name: str, seconds: float) -> int:
        return self._running[name].wait(seconds)

    def end(self, name: str) -> int:
        """End one as a deploy does; its exit code."""
        process = self._running.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
