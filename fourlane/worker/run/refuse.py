"""Jobs that cannot run here: their body is not to be read, or nobody here knows their task."""

from __future__ import annotations

import time
from typing import Any

from fourlane import codec
from fourlane.errors import UnreadableJob
from fourlane.outcome import Outcome, Postpone
from fourlane.queues.broker import RedisBroker
from fourlane.queues.records import read_record, write_record
from fourlane.queues.turn import Leased
from fourlane.worker.run.conclude import Conclusions
from fourlane.worker.run.decide import UNREADABLE, unknown_task
from fourlane.worker.run.finish import Owner
from fourlane.worker.run.plan import NoPlan
from fourlane.worker.run.run import Run

__all__ = ["Refusals"]


class Refusals:
    """Ends them, with the reason."""

    def __init__(self, broker: RedisBroker, owner: Owner, conclusions: Conclusions) -> None:
        self._owner = owner
        self._conclusions = conclusions
        self._no_plan: Any = NoPlan(broker)

    def refuse_unreadable(self, service: Any, leased: Leased, error: UnreadableJob) -> None:
        run = Run(service, leased, codec.Envelope(""), self._no_plan)
        self._owner.finished(run, self._conclusions.refused(run, UNREADABLE, str(error)))

    def refuse_unknown(self, service: Any, leased: Leased, envelope: codec.Envelope) -> None:
        """Another version may know the task."""
        run = Run(service, leased, envelope, self._no_plan)
        self._owner.finished(run, self._park(run, int(time.time() * 1000)))

    def _park(self, run: Run, now_ms: int) -> Outcome:
        record, task = read_record(run.leased.record), run.envelope.task
        record.unknown_since_ms = record.unknown_since_ms or now_ms
        record.unknown_tries += 1
        verdict = unknown_task(now_ms - record.unknown_since_ms, record.unknown_tries)
        if verdict.action == "dead":
            return self._conclusions.refused(run, verdict, f"no worker knew the task {task!r} for 24 h")
        return Postpone(verdict.delay_ms, write_record(record), task)
