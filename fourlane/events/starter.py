"""Starts the receivers beside the workers.

Receivers are processes of their own, and not threads of the workers or of the supervisor:

- user code that holds the GIL in a worker must not stall receives, or let the visibility of received events run out;
- the supervisor's beat keeps leases alive; boto3, JSON and pydantic beside it could delay it, and it imports nothing
  of the user's, whereas models lie in the user's modules;
- handlers that run straight from SQS are user code too, so they have another process than the moving into Redis.

The worker processes of one supervisor share one receiver process for each way: whichever gets the lock starts it, and
when that worker dies, its receiver gives back what it has in hand, ends too, and another worker's takes over. What a
receiver had in hand that died itself, the next one gives back (hand.py).
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Final

import dramatiq
import msgspec

from fourlane.events import catalogue
from fourlane.events.catalogue import Through
from fourlane.events.hand import is_receiving, set_receiving
from fourlane.own_folder import own_folder

__all__ = ["Spec", "Starter", "way_of"]

log = logging.getLogger("fourlane.events")

_LOOK_SECONDS: Final = 0.2
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0


class Spec(msgspec.Struct, frozen=True):
    """What a receiver process needs to know: its first line of stdin. A second line tells it to stop."""

    modules: list[str]
    way: Through
    grace_seconds: float
    log_level: str
    path: list[str]
    hand_fd: int
    """The file in which it writes what it has in hand (hand.py), and finds what the one before it left."""
    killed: bool = False
    """Whether the one before it ended by SIGKILL."""


def way_of(handlers: Iterable[catalogue.Handler]) -> Through:
    """Which process serves an event: with one handler straight from SQS, that one serves all of its handlers."""
    return "direct" if any(handler.through == "direct" for handler in handlers) else "queue"


class Starter(dramatiq.Middleware):
    """Added to the broker by the first ``@on_event``."""

    def __init__(self) -> None:
        self._keepers: list[_Keeper] = []

    def after_worker_boot(self, broker: dramatiq.Broker, worker: Any) -> None:
        ways = sorted({way_of(handlers) for handlers in catalogue.handlers().values()})
        self._keepers = [_Keeper(way, worker) for way in ways]

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Any) -> None:
        for keeper in self._keepers:
            keeper.stop()


class _Keeper:
    """Keeps one receiver process alive, as long as no other worker of this supervisor does."""

    def __init__(self, way: Through, worker: Any) -> None:
        self.way: Through = way
        self.worker = worker
        self.grace_seconds = float(getattr(worker, "grace_seconds", 25.0))
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"fourlane-events-{way}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self._thread.join(self.grace_seconds + 1)

    def _keep(self) -> None:
        told = ""
        while True:
            try:
                path = own_folder() / f"events-{os.getppid()}-{self.way}.lock"
                with path.open("a") as lock:
                    if _take(lock, path):
                        self._serve()
                        path.unlink(missing_ok=True)
                        return
            except OSError as error:
                if str(error) != told:
                    log.error("receiver way=%s waits: %s", self.way, error)
                told = str(error)
            if self._stops(5 * _LOOK_SECONDS):
                return

    def _serve(self) -> None:
        """Raises OSError."""
        with tempfile.TemporaryFile() as file:
            self._keep_one(file.fileno())

    def _keep_one(self, hand_fd: int) -> None:
        """One receiver after another. Only those that end before they receive make the pauses longer."""
        pause, killed = 0.0, False
        while not self._stops(pause):
            set_receiving(hand_fd, False)
            try:
                process = self._start(hand_fd, killed)
            except OSError as error:
                pause = min(_LONGEST_PAUSE_SECONDS, max(0.5, pause * 2))
                log.error("receiver way=%s cannot be started: %s; next try in %.1f s", self.way, error, pause)
                continue
            while process.poll() is None:
                if self._stops(_LOOK_SECONDS):
                    self._end(process)
                    return
            assert process.stdin is not None
            process.stdin.close()
            killed = process.returncode == -signal.SIGKILL
            if is_receiving(hand_fd):
                pause = 0.0
            pause = min(_LONGEST_PAUSE_SECONDS, max(_FIRST_PAUSE_SECONDS, pause * 2))
            log.error("receiver way=%s ended with code %s; next start in %.1f s", self.way, process.returncode, pause)

    def _start(self, hand_fd: int, killed: bool) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "fourlane.events.process"], stdin=subprocess.PIPE, bufsize=0, pass_fds=[hand_fd]
        )
        assert process.stdin is not None
        spec = Spec(
            catalogue.modules(),
            self.way,
            self.grace_seconds,
            logging.getLevelName(logging.getLogger().level),
            [os.getcwd(), *[p for p in sys.path if p]],
            hand_fd,
            killed,
        )
        try:
            process.stdin.write(msgspec.json.encode(spec) + b"\n")
        except BrokenPipeError:
            pass  # it died at once; whoever waits for it will see
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(b"stop\n")
            process.wait(self.grace_seconds)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            process.kill()
        process.wait()

    def _stops(self, seconds: float) -> bool:
        """Wait; true when the worker stops."""
        deadline = time.monotonic() + seconds
        while True:
            if self.stopping.is_set() or getattr(self.worker, "stopping", False):
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.stopping.wait(min(left, _LOOK_SECONDS))


def _take(lock: IO[str], path: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())  # else its last holder has just removed it
    except OSError:
        return False
