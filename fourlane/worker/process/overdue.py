"""Kills processes that are over a limit of time: a job's hard limit, or the grace of their own stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from fourlane.worker.process.child import Child

__all__ = ["kill_overdue"]

log = logging.getLogger("fourlane.supervisor")

_STOP_MARGIN_SECONDS: Final = 10.0  # over the grace, which a process keeps by itself


def kill_overdue(children: Sequence[Child], grace_seconds: float, count: Callable[[str, int], None]) -> None:
    """Those that are condemned too, once they have shown their stacks."""
    now = time.monotonic()
    for child in children:
        overdue = child.overdue(now)
        if overdue:
            count("hard_limit_kills", not child.killed)
            for running in overdue:
                log.error("hard-limit job=%s: killing process %d", running.entry.partition("|")[0], child.number)
            child.kill("at a job's hard limit", guilty=[running.entry for running in overdue])
        elif child.stopping_since and now - child.stopping_since > grace_seconds + _STOP_MARGIN_SECONDS:
            log.error("process %d does not stop; killing it", child.number)
            child.kill("it did not stop", guilty=[])
        else:
            child.carry_out(now)
