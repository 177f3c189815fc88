"""Worker processes of a peer, and what their jobs reported."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

__all__ = ["TooLate", "Workers"]


class TooLate(Exception):
    """Something did not happen in its time."""


class Workers:
    """Starts the commands, each in a process group of its own, and kills them at the end. Use in a ``with``."""

    def __init__(self, commands: list[list[str]], env: dict[str, str]) -> None:
        self.commands = commands
        self.folder = Path(tempfile.mkdtemp(prefix="fourlane-bench-"))
        root = str(Path(__file__).parent.parent)
        path = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH")) if p)
        self.env = os.environ | env | {"BENCH_FOLDER": str(self.folder), "PYTHONPATH": path}
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Workers:
        self.start()
        return self

    def start(self) -> None:
        for command in self.commands:
            with (self.folder / "log").open("ab") as log:
                process = subprocess.Popen(
                    command, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
                )
            self.processes.append(process)

    def kill(self) -> None:
        """SIGKILL to all of them, children included, as if the machine died."""
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        self.processes.clear()

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    # What the jobs reported ---------------------------------------------------------------------------------

    def count(self) -> int:
        """Jobs finished."""
        return sum(int.from_bytes(file.read_bytes()[:8], "little") for file in self.folder.glob("count-*"))

    def samples(self, kind: str = "samples") -> list[int]:
        """The numbers that jobs wrote down, in nanoseconds."""
        return [int(line) for file in sorted(self.folder.glob(f"{kind}-*")) for line in file.read_text().split()]

    def log(self) -> str:
        """The last lines that the workers wrote."""
        lines = (self.folder / "log").read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])

    def wait_count(self, number: int, seconds: float) -> bool:
        """Wait until so many jobs are finished; False when they are not in this time. Looks at it each 2 ms."""
        deadline = time.monotonic() + seconds
        while self.count() < number:
            self._check()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def wait_samples(self, number: int, seconds: float, kind: str = "samples") -> bool:
        """The same for numbers written down."""
        deadline = time.monotonic() + seconds
        while len(self.samples(kind)) < number:
            self._check()
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        return True

    def _check(self) -> None:
        for process in self.processes:
            if process.poll() is not None:
                raise TooLate(f"a worker ended with exit code {process.returncode}: {self.log()}")
