"""One worker process, as its supervisor sees it: start, tell, stop, kill, and how it ended."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from typing import Final

import msgspec

from fourlane.worker.process import proc
from fourlane.worker.process.options import Options
from fourlane.worker.process.pipe import Pipe
from fourlane.worker.process.protocol import CANNOT_START, CONTROLLED, Spec
from fourlane.worker.process.restart import End
from fourlane.worker.table import Running, Table

__all__ = ["Child"]

_CONDEMNED_SECONDS: Final = 1.0  # to write its stacks


class Child:
    """One worker process."""

    def __init__(self, number: int, options: Options, metrics_folder: str = "", declare: int = 0) -> None:
        self.number = number
        self.table = Table.create(options.slots + options.concurrency)
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.started_at = time.monotonic()
        self.stopping_since: float | None = None
        self.killed = ""  # why we killed it
        self.guilty: list[str] | None = None  # the entries whose fault it was; None: all that ran
        self.serves_since = 0.0
        self.condemned = ""  # why it is killed in a moment
        self.condemned_at = 0.0
        self.quiet_seconds = 0.0  # hung.py
        self.turned_at = 0.0
        self.pulse = 0
        self.overran = False  # a job of it has passed its time limit
        self.declared = -1  # the last order to declare that it carried out
        self.presented = False  # whether it is on the list of workers
        try:
            self.process = _start(options, self.table)
        except OSError:
            self.table.close()
            raise
        assert self.process.stdin is not None
        self._pipe = Pipe(self.process.stdin)
        self.tell(self._spec(options, metrics_folder, declare))

    def _spec(self, options: Options, metrics_folder: str, declare: int) -> Spec:
        return Spec(
            name=self.name,
            modules=options.modules,
            queues=options.queues,
            services=options.services,
            slots=options.slots,
            concurrency=options.concurrency,
            grace_seconds=options.grace_seconds,
            log_jobs=options.log_jobs,
            profile=options.profile,
            observe=options.observe,
            metrics_folder=metrics_folder,
            table_fd=self.table.fd,
            opening=options.opening,
            boot_ms=options.boot_ms,
            declare=declare,
            is_first=self.number == 0,
            path=[os.getcwd(), *[p for p in sys.path if p]],
        )

    def tell(self, message: msgspec.Struct) -> bool:
        """Send a line, at once or not at all. False: it was dropped."""
        return self._pipe.tell(message)

    def flush(self) -> bool:
        """Send on what there was no room for. True when nothing is left."""
        return self._pipe.flush()

    @property
    def serves(self) -> bool:
        """Whether it had its first good turn."""
        return self.table.turned_at > 0

    def stop(self) -> None:
        """Ask it to end in its grace. A second call does nothing."""
        if self.stopping_since is None:
            self.stopping_since = time.monotonic()
            self.process.terminate()

    def kill(self, why: str, *, guilty: list[str] | None) -> None:
        """End it at once. Only the guilty entries count a crash; None: of all jobs that run."""
        if not self.killed:
            self.killed, self.guilty = why, guilty
        self.process.kill()

    def condemn(self, why: str, *, guilty: list[str] | None) -> None:
        """Let it show its stacks, and kill it then."""
        self.condemned, self.condemned_at, self.guilty = why, time.monotonic(), guilty
        self.process.send_signal(signal.SIGUSR1)

    def carry_out(self, now: float) -> None:
        """Kill it if it was condemned and had its moment."""
        if self.condemned and now - self.condemned_at >= _CONDEMNED_SECONDS:
            self.kill(self.condemned, guilty=self.guilty)

    def left(self) -> bool:
        """Whether it ended and had given everything back, or had not taken anything."""
        code = self.process.returncode
        if code == CANNOT_START:
            return True
        if code == -signal.SIGTERM and self.stopping_since is not None:
            return not self.serves
        return code == 0 and not self.table.held

    def end(self, now: float) -> End:
        """What its end means for the next start."""
        return End(
            wanted=self.stopping_since is not None,
            guilty=bool(self.table.running()),
            worked=self.table.finished > 0,
            served=self.serves,
            lived_seconds=now - self.started_at,
        )

    def fate(self) -> str:
        """How it ended, in words."""
        code = self.process.returncode
        if self.killed:
            return f"killed: {self.killed}"
        if code == 0:
            return "exit code 0 with jobs in hand"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def overdue(self, now: float) -> list[Running]:
        """Running jobs past their hard limit."""
        return [running for running in self.table.running() if 0 < running.hard_deadline <= now]

    def is_stopped(self) -> bool:
        """Whether a signal holds it up."""
        return proc.is_stopped(self.process.pid)

    def rss_mb(self) -> float:
        return proc.rss_mb(self.process.pid)

    def close(self) -> None:
        self._pipe.close()
        self.table.close()


def _start(options: Options, table: Table) -> subprocess.Popen[bytes]:
    # Python takes a .pyc for fresh when second and size agree: an edit can be quicker than that.
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} if options.watch else None
    # It receives no signal before it has decided about each.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, CONTROLLED)
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "fourlane.worker.process.main"],
            stdin=subprocess.PIPE,
            bufsize=0,
            pass_fds=(table.fd,),
            env=env,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
