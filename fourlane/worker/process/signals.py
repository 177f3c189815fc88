"""Signals that a supervisor takes, heard between two of its looks."""

from __future__ import annotations

import os
import signal
import socket

from fourlane.readable import readable
from fourlane.worker.process.protocol import CONTROLLED

__all__ = ["Signals"]


class Signals:
    """Keeps what came until it is taken, and wakes who waits. For the main thread, from `hear` to `close`."""

    def __init__(self, profile: bool) -> None:
        self.passed_on = (signal.SIGUSR1, signal.SIGUSR2) if profile else (signal.SIGUSR1,)
        """For the processes: show stacks, write the profile."""
        self._had_terminal = os.isatty(2)
        self._came: list[int] = []

    def hear(self) -> None:
        for caught in (*CONTROLLED, *self.passed_on, signal.SIGCHLD):
            signal.signal(caught, lambda number, _: self._came.append(number))
        self._out, self._in = socket.socketpair()
        self._out.setblocking(False)
        self._in.setblocking(False)
        signal.set_wakeup_fd(self._in.fileno(), warn_on_full_buffer=False)

    def raise_here(self, number: int) -> None:
        """As if it had come; from any thread."""
        self._came.append(number)

    def take(self) -> list[int]:
        """Those that came, the oldest first."""
        came: list[int] = []
        while self._came:
            came.append(self._came.pop(0))
        return came

    def wait(self, seconds: float) -> None:
        """For the next one, and no longer than this."""
        readable([self._out.fileno()], seconds)
        try:
            self._out.recv(4096)
        except BlockingIOError:
            pass

    def terminal_is_gone(self) -> bool:
        """SIGHUP is what a closed terminal sends too: then nobody is there to stop this worker any more."""
        return self._had_terminal and not os.isatty(2)

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        self._out.close()
        self._in.close()
