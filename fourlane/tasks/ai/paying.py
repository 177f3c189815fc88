"""One piece of paid work is done once: a recorded step, tried on one model after the other, kept, booked."""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import replace
from typing import TypedDict

from fourlane.errors import ProviderDown, ProviderLimited, RateLimited, Reject
from fourlane.providers.ai import Answer, is_fault_of_ours, read_error
from fourlane.providers.health import Permit
from fourlane.tasks.ai.booking import Booked, Booking, Reserved
from fourlane.tasks.ai.budgets import BudgetSpent
from fourlane.tasks.ai.config import AiConfig
from fourlane.tasks.ai.figures import Seen, watched, words_of
from fourlane.tasks.ai.prices import charge
from fourlane.tasks.ai.reply import Reply, reply_of
from fourlane.tasks.ai.speaking import Speaker
from fourlane.tasks.ai.taken import Taken
from fourlane.tasks.ai.work import SAYS, NotAccepted, Work
from fourlane.tasks.context import current_job, running
from fourlane.tasks.health import health
from fourlane.tasks.steps import step, step_key

__all__ = ["pay"]

log = logging.getLogger("fourlane.ai")


class _Kept(TypedDict):
    """What a step records of an answer that was paid for."""

    reply: Reply
    booked: Booked


async def pay(config: AiConfig, work: Work, *, name: str, tenant: str | None) -> Reply:
    """Have a piece of work done, as the step ``ai:NAME``.

    Outside of a job, and in a handler straight from SQS, nothing is recorded: who calls again pays again.

    Raises:
      NotAccepted: an answer came, but ended in a way that is not accepted, of all models that may be asked.
      Reject: it can never succeed, or the budget is spent.
      RateLimited: the provider is down or at its limit, and no fallback is well.
      whatever the SDK raised last.
    """
    key = step_key(f"ai:{name}") if current_job() is not None else f"fourlane-{uuid.uuid4()}"
    paying = _Paying(config, work, key, tenant)
    async with step[_Kept](f"ai:{name}") as paid:
        if not paid.recorded:
            paid.result = await paying.first_that_answers(name)
    kept: _Kept = paid.result
    if paid.recorded:
        paying.speaker.say(kept["reply"]["text"])
    # It does nothing the second time, so a worker may die between any two of these lines.
    await paying.booking.book(kept["booked"])
    return kept["reply"]


class _Paying:
    """A piece of work on its way through models, budget and health."""

    def __init__(self, config: AiConfig, work: Work, key: str, tenant: str | None) -> None:
        self.config = config
        self.work = work
        self.key = key
        self.tenant = tenant
        self.speaker = Speaker()
        self.booking = Booking(config, work, key, tenant)

    async def first_that_answers(self, name: str) -> _Kept:
        """From the model that was asked, or from the first fallback that answers. Raises as pay does."""
        asked = self.work.model
        failed: list[Exception] = []
        for candidate in (asked, *self.config.fallbacks.get(asked, ())):
            full = self.config.resolve(candidate)
            try:
                return await self._answer_of(full, name)
            except BudgetSpent:
                raise
            except Exception as error:
                log.warning("%s did not answer: %s", full, words_of(error))
                failed.append(error)
        raise _most_hopeful(failed)

    async def _answer_of(self, full: str, name: str) -> _Kept:
        """The kept answer of a model. One that is not accepted is recorded by itself: it is paid for, and once."""
        run, not_accepted = running.get(), f"ai:{name}@{full}"
        steps = None if run is None else run.steps
        if steps is not None and steps.has(not_accepted):
            kept: _Kept = steps.value(not_accepted)
        else:
            kept = await self._pay(full)
            if kept["reply"]["outcome"] in self.work.accept:
                return kept
            if steps is not None:
                await steps.arecord(not_accepted, kept)
        await self.booking.book(kept["booked"])
        raise NotAccepted(kept["booked"]["error"], kept["reply"])

    async def _pay(self, full: str) -> _Kept:
        taken = Taken(self.work.most)
        with watched(self.work.operation, full, self.tenant) as seen:
            reserved = await self.booking.reserve(full, seen, taken)
            try:
                answer = await self._answer(full, seen, taken)
            except BaseException as error:
                seen.outcome, seen.error = "error", words_of(error)
                await asyncio.shield(self._failed(reserved, taken, error, seen))
                if is_fault_of_ours(error):
                    raise Reject(f"{full}: {seen.error}") from error
                raise
            charged, answer = charge(self.config, full, taken.usages), replace(answer, usage=taken.total)
            seen.tell(answer, charged)
            if not charged.priced:
                log.warning("no price is known for %s; give one in FOURLANE_AI", full)
            if answer.outcome not in self.work.accept:
                seen.error = f"{full} {SAYS[answer.outcome]} ({answer.finish})"
            booked = reserved.paid(answer, charged, outcome=answer.outcome, error=seen.error)
            return {"reply": reply_of(full, answer, charged, []), "booked": booked}

    async def _failed(self, reserved: Reserved, taken: Taken, error: BaseException, seen: Seen) -> None:
        """Book what a call cost that failed: what its tries took."""
        answer = replace(getattr(error, "answer", None) or Answer(), usage=taken.total)
        charged = charge(self.config, reserved.call.model, taken.usages)
        seen.tell(answer, charged)
        was_called = bool(taken.usages) or not isinstance(error, (ProviderDown, ProviderLimited, BudgetSpent))
        booked = reserved.paid(answer, charged, outcome="error", error=seen.error)
        await self.booking.book_failed(booked, made=was_called)

    async def _answer(self, full: str, seen: Seen, taken: Taken) -> Answer:
        """Ask, when health and limits let it through."""
        provider, _, model = full.partition("/")
        rules = self.config.rules(full)
        account = self.config.account(provider, rules.timeout_seconds)

        def heard(text: str) -> None:
            taken.heard(text)
            self.speaker.say(text)

        async def attempt(permit: Permit) -> Answer:
            if taken.usages:  # what broke off before is paid for too
                await self.booking.reserve(full, seen, taken)
            self.speaker.begin()
            taken.begin()
            try:
                answer = taken.answered(await self.work.ask(account, model, self.key, heard))
            except BaseException as error:
                permit.used_tokens = taken.broke(error).usage.tokens or None
                raise
            permit.used_tokens = answer.usage.tokens or None
            permit.silence_ms = answer.silence_ms
            return answer

        tokens = self.work.most.tokens
        return await health.here().acall(self.config.target(full), rules, attempt, read=read_error, tokens=tokens)


def _most_hopeful(failed: list[Exception]) -> Exception:
    """What to raise of what befell the models: where waiting helps the job waits, where trying again does it tries."""
    waits = [error for error in failed if isinstance(error, RateLimited)]
    if waits:
        return min(waits, key=lambda error: error.delay_ms)
    return next((error for error in failed if not isinstance(error, Reject)), failed[0])
