"""All that comes before a job's function: may it still begin, its row, its options, its limits, who hears of it."""

from __future__ import annotations

import time
from typing import Any

from dramatiq.middleware import Shutdown, SkipMessage

from fourlane import codec
from fourlane.errors import LeaseLost, Reject
from fourlane.later import refuse_unsealed
from fourlane.options import CHECKED, fault_of
from fourlane.queues.broker import RedisBroker
from fourlane.queues.in_process import in_process
from fourlane.queues.records import read_record
from fourlane.tasks.context import running
from fourlane.telling import tell
from fourlane.worker.run.decide import Skipped
from fourlane.worker.run.expiry import refuse_expired
from fourlane.worker.run.rows import Rows
from fourlane.worker.run.run import Run
from fourlane.worker.run.soft_timeout import deadline_of

__all__ = ["Begin", "Halt"]


class Halt:
    """Keeps what was leased from beginning: the worker stops, or leases were lost."""

    stops = False
    looks = False  # most of the time nothing is in the way of any job

    def stop(self) -> None:
        self.stops = self.looks = True

    def lose(self, run: Run) -> None:
        run.lost = self.looks = True

    def refuse(self, run: Run) -> None:
        """Raises what ends a run that shall not begin any more."""
        if run.lost:
            raise LeaseLost
        if self.stops:
            run.context.cancel_token.set("shutdown")
            raise Shutdown


class Begin:
    """Begins runs. What it raises is their error."""

    def __init__(self, broker: RedisBroker, rows: Rows, halt: Halt) -> None:
        self._broker = broker
        self._rows = rows
        self._halt = halt

    def begin(self, run: Run, row: int) -> None:
        """Of every job. In its thread or coroutine."""
        options = run.envelope.options
        started = run.started = time.monotonic()
        run.row = row
        if self._halt.looks:
            self._halt.refuse(run)
        if self._rows.table is not None:
            self._rows.begin(run, row)
        if run.leased.record or run.leased.crashes:
            run.attempt = 1 + read_record(run.leased.record).attempts
        running.set(run)
        if options:
            self._begin_with(run, options)
        elif run.plan.timeout_ms:
            run.deadline = started + run.plan.timeout_ms / 1000

    def _begin_with(self, run: Run, options: dict[str, Any]) -> None:
        fault = "" if CHECKED.isdisjoint(options) else fault_of(options)
        if fault:
            raise Reject(f"the job's option {fault}")
        if not codec.is_sealed(run.envelope):
            refuse_unsealed(options, self._broker.actors)
        run.deadline = deadline_of(run)
        tell.began(run)

    def dress(self, run: Run) -> None:
        """Of a job that is more than its function: sealed, with a limit of age, or with middleware that hears of it.

        Until its function is called, ``in_process`` has it.
        """
        plan = run.plan
        if plan.fault:
            raise Reject(f"the actor's option {plan.fault}")
        if plan.encrypt or codec.is_sealed(run.envelope):
            run.open()
        in_process.message = run
        refuse_expired(run)
        try:
            self._broker.call_hooks(plan.before, (run,), {})
        except SkipMessage as skip:
            raise Skipped from skip
        if run.failed:
            raise Skipped
