"""What signals mean to a worker until its supervisor takes them: none ends it without a word, and none is lost."""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["hold_signals", "take_signals"]


def take_signals(profile: bool) -> None:
    """SIGTERM ends what has nothing in hand; by itself it would not reach the process 1 of a container."""
    had_terminal = os.isatty(2)

    def stop(*_: object) -> None:
        sys.exit(0)

    def ignore(number: int, _: object) -> None:
        if number == signal.SIGHUP and had_terminal and not os.isatty(2):
            sys.exit(0)  # a closed terminal sends it: nobody is there to stop this worker any more
        # Not through a stream, for this may come amid a write to it.
        os.write(2, f"{signal.Signals(number).name}: this worker is still starting; ignored\n".encode())

    signal.signal(signal.SIGTERM, stop)
    for number in (signal.SIGHUP, signal.SIGUSR1, *((signal.SIGUSR2,) if profile else ())):
        signal.signal(number, ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


def hold_signals() -> None:
    """Those that come from now on are taken by the program that takes the place of this one (``os.execv``)."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


_HELD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
