"""What a process owes the code of others that it runs: signals, output and its end are as in any Python program."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterable
from typing import Final, NoReturn

__all__ = ["leave", "take_signals", "wait_for_threads", "write_by_line"]

_LEFT_TO_ANOTHER: Final = (signal.SIGINT, signal.SIGHUP)
_CAUGHT: Final = (*_LEFT_TO_ANOTHER, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def take_signals() -> None:
    """Leave it to the supervisor what a terminal sends to the whole group; call it before any is caught here.

    A program that a task starts has the usual behaviour: it would inherit SIG_IGN, but no handler. A child that a
    task forks would inherit handlers too.
    """
    for number in _LEFT_TO_ANOTHER:
        signal.signal(number, lambda *_: None)
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_as_any_program)


class _Held(threading.local):
    """The signals that a thread had blocked before it forked."""

    mask: Iterable[int] = ()


_held = _Held()


def _hold() -> None:
    """A signal that comes before the child has its own handlers would be lost in ours."""
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _CAUGHT)


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)


def _as_any_program() -> None:
    signal.set_wakeup_fd(-1)  # it is the parent's pipe
    for number in _CAUGHT:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _release()


def write_by_line() -> None:
    """What a task prints is seen at once, and not lost when the process is killed."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None where the program was started without one
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def wait_for_threads(within_seconds: float) -> None:
    """Let threads that are not daemons, and pools of ``concurrent.futures``, end what they have, as Python does."""
    waiting = threading.Thread(target=_end_threads, name="fourlane-leave", daemon=True)
    waiting.start()
    waiting.join(max(0.0, within_seconds))


def _end_threads() -> None:
    # threading._shutdown() itself would also wait for the main thread, which is to go on when the time is over.
    for tell_pools in reversed(threading._threading_atexits):  # type: ignore[attr-defined]
        tell_pools()
    while left := [t for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]:
        for thread in left:
            thread.join()


def leave(code: int, within_seconds: float) -> NoReturn:
    """End as Python does, with its ``atexit`` functions, but wait for no thread more, and no longer than this."""
    ender = threading.Timer(within_seconds, os._exit, [code])
    ender.daemon = True
    ender.start()
    try:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code)
