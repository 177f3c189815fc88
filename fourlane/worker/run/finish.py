"""The end of a run: it is concluded, and its owner is told."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from fourlane.outcome import PLAIN, Outcome
from fourlane.telling import tell
from fourlane.worker.run.conclude import Conclusions
from fourlane.worker.run.histories import Histories
from fourlane.worker.run.quietly import quietly
from fourlane.worker.run.run import Run

__all__ = ["Finish", "Owner"]

log = logging.getLogger("fourlane.worker")


class Owner(Protocol):
    """What is told about each job: it ended so."""

    def finished(self, run: Run, outcome: Outcome) -> None: ...

    def mislaid(self) -> None:
        """A job may be in no place any more, though Redis says that it is held here."""


class Finish:
    """Finishes runs."""

    def __init__(self, owner: Owner, conclusions: Conclusions, histories: Histories) -> None:
        self._owner = owner
        self._conclusions = conclusions
        self._histories = histories

    def may_block(self, run: Run, error: BaseException | None) -> bool:
        """Whether to finish it may take as long as Redis is away."""
        return self._conclusions.asks_redis(run, error)

    def finish(self, run: Run, result: Any, error: BaseException | None) -> None:
        """Its outcome, told to the owner: nothing else that fails here keeps it from that."""
        plan = run.plan
        if error is None and plan.plain and not run.envelope.options and (result is None or not plan.discards):
            outcome: Outcome = PLAIN
        else:
            outcome = self._conclusions.of(run, result, error)
        if error is not None:
            quietly(tell.failed, run, error, outcome)
        if run.abandoned:
            run.let_go()
            return
        try:
            self._owner.finished(run, outcome)
        except BaseException:
            log.critical("The end of job %s could not be told to the loop.", run.id, exc_info=True)
        if outcome is not PLAIN:
            self._let_go(run, outcome)

    def _let_go(self, run: Run, outcome: Outcome) -> None:
        if "turned" not in tell.heard:
            run.let_go()  # else its error is wanted once more, when the turn is taken
        if "scheduled_for" in run.envelope.options:
            quietly(self._histories.tell, run, outcome)
