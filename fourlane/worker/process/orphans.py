"""As process 1 of a container the supervisor inherits what tasks leave behind, and has to take note of its end."""

from __future__ import annotations

import os
from collections.abc import Collection

__all__ = ["reap_orphans"]


def reap_orphans(own: Collection[int]) -> None:
    """Let those that ended go. ``own`` are waited for elsewhere, where their exit codes count."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in own:  # own ones first: the next look finds what is behind them
            return
        os.waitpid(ended.si_pid, os.WNOHANG)
