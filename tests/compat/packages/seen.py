"""What the programs here share: notes of their jobs, a real worker, and checks that are printed as lines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

URL = os.environ["REDIS_URL"]
FOLDER = Path(os.environ["COMPAT_FOLDER"])
WORKER = os.environ["COMPAT_WORKER"]
BIN = Path(sys.executable).parent
COMMANDS = {
    "fourlane": ["fourlane", "worker"],
    "dramatiq": ["dramatiq", "--processes", "1", "--threads", "8"],
    "gevent": ["dramatiq-gevent", "--processes", "1", "--threads", "100"],
}
_client = redis.Redis.from_url(URL, decode_responses=True)


def note(what: str) -> None:
    _client.rpush("seen", what)


def notes() -> list[str]:
    found: Any = _client.lrange("seen", 0, -1)
    return list(found)


def check(what: str, so: Callable[[], Any], seconds: float = 30.0) -> None:
    """Print whether this comes to be."""
    deadline = time.monotonic() + seconds
    fault = "not so"
    while time.monotonic() < deadline:
        try:
            if so():
                print("ok", what, flush=True)
                return
            fault = f"not so within {seconds:g} s"
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        time.sleep(0.05)
    print("no", what, "-", " ".join(fault.split()), flush=True)


def log() -> str:
    return (FOLDER / "worker.log").read_text()


def start(module: str, *more: str, worker: str = WORKER) -> subprocess.Popen[bytes]:
    name, *options = COMMANDS[worker]
    with (FOLDER / "worker.log").open("ab") as file:
        return subprocess.Popen([BIN / name, *options, module, *more], stdout=file, stderr=file)


@contextmanager
def running(module: str, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The worker under test with these modules; it must stop on SIGTERM with exit code 0."""
    process = start(module, *more)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code: Any = process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            code = "none within 20 s"
        check(f"its worker stops ({code})" if code else "its worker stops", lambda: code == 0, 0.1)
