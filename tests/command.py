"""The real ``fourlane`` command, in processes of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fourlane
from tests import warm

CALL = [sys.executable, "-c", "from fourlane.cli import main; main(prog_name='fourlane')"]
SECONDS = 45


class Command:
    """Runs ``fourlane`` in a folder; ``env`` is what it is given beside this process's environment."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        source = str(Path(fourlane.__file__).parents[1])
        self.env = os.environ | {"PYTHONPATH": source, "PYTHONWARNINGS": "default"} | env
        self.started: list[subprocess.Popen[Any]] = []

    def module(self, name: str, text: str) -> str:
        """Write a module of tasks beside it; returns its name."""
        (self.folder / f"{name}.py").write_text(text)
        return name

    def __call__(self, *args: str, input: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        files = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = warm.Process(["fourlane", *args], cwd=self.folder, env=self.env | env, text=True, **files)
        with process:
            try:
                out, err = process.communicate(input, SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, *args: str, url: str | None = None, **options: Any) -> subprocess.Popen[Any]:
        """Start it, in a process group of its own, on another server if ``url`` says so; it ends with the test."""
        return self._start(warm.Process, ["fourlane", *args], url, options)

    def start_other(self, command: list[str], *, url: str | None = None, **options: Any) -> subprocess.Popen[Any]:
        """Likewise a program that is not fourlane."""
        return self._start(subprocess.Popen, command, url, options)

    def _start(
        self, kind: type[subprocess.Popen[Any]], command: list[str], url: str | None, options: dict[str, Any]
    ) -> subprocess.Popen[Any]:
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "start_new_session": True} | options
        env = self.env if url is None else self.env | {"REDIS_URL": url}
        process = kind(command, cwd=self.folder, env=env, **given)
        self.started.append(process)
        return process

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


def run_python(command: Command, code: str, *args: str, **env: str) -> str:
    """Run a program in its folder, with its environment: what it wrote."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=command.folder,
        env=command.env | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def command(redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Command]:
    """The command on the shared server, in the test's folder."""
    made = Command(tmp_path, REDIS_URL=redis_url, FOURLANE_NAMESPACE=namespace)
    yield made
    made.close()
