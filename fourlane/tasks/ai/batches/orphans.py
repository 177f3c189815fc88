"""Answers whose job is no more: they are paid for all the same."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable

import msgspec

from fourlane.providers.ai import Account, Answer, FailedAnswer
from fourlane.providers.ai.batches import answer_of
from fourlane.queues.guards import PaidCall
from fourlane.sealing import open_file
from fourlane.tasks.ai.batches.records import Whose
from fourlane.tasks.ai.config import AiConfig
from fourlane.tasks.ai.money.booking import Booking, Payer, Reserved
from fourlane.tasks.ai.money.prices import charge
from fourlane.tasks.ai.money.taken import Taken
from fourlane.tasks.ai.paid.work import Work
from fourlane.tasks.ai.whose import account_name

__all__ = ["book_orphan"]

log = logging.getLogger("fourlane.ai")

_ROWS: uuid.UUID = uuid.uuid5(uuid.NAMESPACE_URL, "fourlane:batches")


async def book_orphan(config: AiConfig, ticket: str, whose: Whose, data: bytes) -> None:
    """Book an answer that nobody takes; once, however often it is called."""
    provider, _, model = whose.full.partition("/")
    opened = open_file(ticket, data) if whose.sealed else data
    try:
        answer = answer_of(provider, model, msgspec.json.decode(opened))
    except FailedAnswer:
        return
    taken = Taken(answer.usage)
    answer = taken.answered(answer)
    call = PaidCall(whose.key, account_name(whose.tenant), whose.day, whose.task, whose.full)
    reserved = Reserved(call, int(time.time() * 1000), time.monotonic())
    charged = charge(config, whose.full, taken.usages)
    booked = reserved.paid(answer, charged, outcome=answer.outcome)
    booked["row"] = str(uuid.uuid5(_ROWS, whose.key))
    work = Work(operation=whose.operation, model=whose.full, ask=_never, most=answer.usage)
    booking = Booking(config, work, whose.key, whose.tenant or None, payer=Payer(whose.job, whose.task))
    await booking.book(booked)
    log.info("an answer of a batch came for job %s, which is no more; it is booked", whose.job)


async def _never(account: Account, model: str, key: str, heard: Callable[[str], None]) -> Answer:
    raise AssertionError("nobody is asked")
