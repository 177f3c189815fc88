"""The books of a call: what is reserved before it, what it cost, and its row."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass
from typing import Any, TypedDict

from fourlane.errors import FourlaneError, Reject
from fourlane.providers.ai import Answer
from fourlane.tasks.ai.budgets import budgets, month_now, reserve
from fourlane.tasks.ai.config import MICRO, AiConfig
from fourlane.tasks.ai.figures import NOBODY, Seen
from fourlane.tasks.ai.prices import cost
from fourlane.tasks.ai.rows import write_row
from fourlane.tasks.ai.work import Work
from fourlane.tasks.context import current_job

__all__ = ["Booked", "Booking", "Payer", "Reserved"]

log = logging.getLogger("fourlane.ai")


class Booked(TypedDict):
    """What the books need of a call that ended.

    micro: millionths of a dollar. row: the row's id. error: why it failed; else empty.
    """

    full: str
    month: str
    micro: int
    input_tokens: int
    output_tokens: int
    ms: int
    row: str
    error: str


@dataclass(frozen=True, slots=True)
class Reserved:
    """What was set aside for a call of a model.

    Parameters:
      full: ``provider/model``.
      month: whose budget it is of; a call may end in the next one.
      started: by the monotonic clock.
    """

    full: str
    month: str
    started: float

    def paid(self, answer: Answer, dollars: float | None, *, error: str = "") -> Booked:
        """It ended, and cost so much (None: no price is known)."""
        return {
            "full": self.full,
            "month": self.month,
            "micro": 0 if dollars is None else int(dollars * MICRO + 0.5),
            "input_tokens": answer.usage.input_tokens,
            "output_tokens": answer.usage.output_tokens,
            "ms": int((time.monotonic() - self.started) * 1000),
            "row": str(uuid.uuid4()),
            "error": error,
        }


@dataclass(frozen=True, slots=True)
class Payer:
    """The job whose call it is."""

    id: str
    task: str


class Booking:
    """The books of one piece of work, whichever models are asked.

    Parameters:
      payer: where it is not the job that runs here.
    """

    def __init__(
        self, config: AiConfig, work: Work, key: str, tenant: str | None, *, payer: Payer | None = None
    ) -> None:
        self._config = config
        self._work = work
        self._key = key
        self._tenant = tenant
        self._job = payer or current_job()

    async def reserve(self, full: str, seen: Seen) -> Reserved:
        """Set aside what a call of a model may cost at most.

        Raises:
          BudgetSpent, or RateLimited where ``over_budget`` says ``postpone``.
        """
        dollars = cost(self._config, full, self._work.most)
        micro = 0 if dollars is None else int(dollars * MICRO + 1)
        reserved = Reserved(full, month_now(), time.monotonic())
        try:
            await asyncio.to_thread(reserve, self._config, self._tenant, reserved.month, self._key, micro)
        except Reject as error:
            seen.made, seen.error = False, str(error)
            raise
        return reserved

    async def book(self, booked: Booked, *, row: bool = True) -> None:
        """Settle what was reserved and write the row; once, however often it is called."""
        counted = (f"model:{booked['full']}", f"task:{self._job.task if self._job else self._work.operation}")
        who = self._tenant or NOBODY
        settle = budgets.here().settle
        await asyncio.to_thread(settle, who, booked["month"], self._key, booked["micro"], counted)
        if row and self._config.database is not None:
            await asyncio.to_thread(self._write_row, booked)

    def _write_row(self, booked: Booked) -> None:
        provider, _, model = booked["full"].partition("/")
        row: dict[str, Any] = {
            "id": uuid.UUID(booked["row"]),
            "organization_id": _uuid(self._tenant),
            "job_id": self._job.id if self._job else None,
            "operation": self._work.operation,
            "provider": provider,
            "model": model,
            "input_tokens": booked["input_tokens"],
            "output_tokens": booked["output_tokens"],
            "cost_micro_usd": booked["micro"],
            "duration_ms": booked["ms"],
            "status": "error" if booked["error"] else "ok",
            "error_message": booked["error"][:1_000] or None,
        }
        try:
            write_row(self._config.database, row)
        except FourlaneError as fault:
            # The answer is paid for and recorded: a database that is away does not undo that.
            log.error("the row of an AI call of job %s was not written: %s", row["job_id"], fault)


def _uuid(text: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(text) if text else None
    except ValueError:  # a tenant that is no organization of the database
        return None
