"""How a running job learns that it shall end: it was cancelled, its lease is lost, or the worker stops.

Its cancel token says so (tasks/context.py), and an error is raised in its function. What has not begun does not begin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import TypeAlias

from dramatiq.middleware import Shutdown

from fourlane import job
from fourlane.errors import Cancelled, LeaseLost
from fourlane.worker.run.begin import Halt
from fourlane.worker.run.run import Run

__all__ = ["cancel", "tell_lost", "tell_shutdown"]

Interrupt: TypeAlias = Callable[[Run, type[BaseException]], None]


def cancel(runs: Sequence[Run], job_ids: AbstractSet[str], interrupt: Interrupt) -> None:
    """These jobs were cancelled: those told of a stop before hear of it too."""
    for run in runs:
        token = run.context.cancel_token
        if job.id_of_entry(run.leased.entry) in job_ids and token.reason in ("", "shutdown"):
            token.set("cancelled")
            interrupt(run, Cancelled)


def tell_lost(runs: Sequence[Run], halt: Halt, interrupt: Interrupt) -> None:
    """These run elsewhere by now: their end does not count any more."""
    for run in runs:
        halt.lose(run)
        run.context.cancel_token.set("lease_lost")
        interrupt(run, LeaseLost)


def tell_shutdown(runs: Sequence[Run], interrupt: Interrupt) -> None:
    """The worker stops: only those that asked for it are interrupted."""
    for run in runs:
        if not run.context.cancel_token:
            run.context.cancel_token.set("shutdown")
            if run.plan.notify_shutdown or run.envelope.options.get("notify_shutdown"):
                interrupt(run, Shutdown)
