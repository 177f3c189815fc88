"""The books of a call: what is reserved before it, what it cost, and its row."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from fourlane.errors import Reject
from fourlane.providers.ai import Answer, Usage
from fourlane.queues.guards import PaidCall
from fourlane.tasks.ai.config import AiConfig
from fourlane.tasks.ai.figures import Seen
from fourlane.tasks.ai.money.budgets import budgets, paid_call, reserve
from fourlane.tasks.ai.money.prices import Charge, charge
from fourlane.tasks.ai.money.rows import row_of, write_or_keep
from fourlane.tasks.ai.money.taken import Taken
from fourlane.tasks.ai.paid.work import Work
from fourlane.tasks.ai.whose import account_name
from fourlane.tasks.context import current_job

__all__ = ["Booked", "Booking", "Payer", "Reserved"]


class Booked(TypedDict):
    """What the books need of a call that ended; recorded with its answer.

    nano: billionths of a dollar; micro, month: the same for a worker of an earlier release.
    at_ms: of its begin, since 1970. row: the row's id. error: why it failed; else empty.
    """

    full: str
    at_ms: NotRequired[int]
    day: NotRequired[str]
    nano: NotRequired[int]
    known: NotRequired[bool]
    estimated: NotRequired[bool]
    cached_tokens: NotRequired[int]
    reasoning_tokens: NotRequired[int]
    outcome: NotRequired[str]
    first_ms: NotRequired[int]
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
      at_ms: since 1970; started: by the monotonic clock.
    """

    call: PaidCall
    at_ms: int
    started: float

    def paid(self, answer: Answer, charged: Charge, *, outcome: str, error: str = "") -> Booked:
        """It ended, and cost so much; the answer says what all its tries took."""
        return {
            "full": self.call.model,
            "at_ms": self.at_ms,
            "day": self.call.day,
            "nano": charged.nano,
            "known": charged.known,
            "estimated": charged.estimated,
            "cached_tokens": answer.usage.cache_read_tokens,
            "reasoning_tokens": answer.usage.reasoning_tokens,
            "outcome": outcome,
            "first_ms": answer.first_ms,
            "month": self.call.day[:7],
            "micro": charged.nano // 1_000,
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

    @property
    def most(self) -> Usage:
        """What the work may take at most."""
        return self._work.most

    async def reserve(self, full: str, seen: Seen, taken: Taken) -> Reserved:
        """Set aside what a call of a model may cost at most, beside what its earlier tries took.

        Raises:
          BudgetSpent, or RateLimited where ``over_budget`` says ``postpone``.
        """
        most = charge(self._config, full, [*taken.usages, self._work.most])
        call = paid_call(self._id(full), self._work.operation, full, self._tenant)
        reserved = Reserved(call, int(time.time() * 1000), time.monotonic())
        try:
            await asyncio.to_thread(reserve, self._config, call, most)
        except Reject as error:
            if not taken.usages:
                seen.made, seen.error = False, str(error)
            raise
        return reserved

    async def book(self, booked: Booked) -> None:
        """Settle what was reserved and write the row; once, however often it is called."""
        # In one thread to its end: a job that is cancelled meanwhile does not leave half of it.
        await asyncio.shield(asyncio.to_thread(self._book, booked, True, recorded=True))

    async def book_failed(self, booked: Booked, *, made: bool) -> None:
        """As book, of a call that nothing else records: its row is kept until the database has it.

        Parameters:
          made: whether anybody was called.
        """
        await asyncio.shield(asyncio.to_thread(self._book, booked, made, recorded=False))

    def _id(self, full: str) -> str:
        # Of each model by itself: one that was settled, and is settled again, leaves a fallback's reservation alone.
        return f"{self._key}@{full}"

    def _book(self, booked: Booked, made: bool, *, recorded: bool) -> None:
        kept = budgets.here().budgets
        full, task = booked["full"], self._job.task if self._job else self._work.operation
        job = self._job.id if self._job else None
        wanted = made and self._config.database is not None
        line = row_of(booked, operation=self._work.operation, task=task, tenant=self._tenant, job=job)
        if "day" in booked:  # one that an earlier release recorded is in its books
            call = PaidCall(self._id(full), account_name(self._tenant), booked["day"], task, full)
            text = line.packed() if wanted and not recorded else b""
            unpriced = not booked.get("known", True)
            kept.settle(call, booked["nano"], made=made, unpriced=unpriced, row=booked["row"], kept=text)
        if wanted and write_or_keep(self._config.database, line, kept) and not recorded:
            kept.written(booked["row"])
