"""One piece of paid work is done once: a recorded step, tried on one model after the other, kept, booked."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, Final, TypeVar

from fourlane.errors import ProviderDown, ProviderLimited, RateLimited, RedisUnavailable, Reject
from fourlane.providers.ai import Answer, is_fault_of_ours, read_error
from fourlane.providers.ai.batches import has_batches
from fourlane.providers.ai.loading import loaded
from fourlane.providers.health import Permit
from fourlane.tasks.ai.batches.asking import Batched, Parked, account_of
from fourlane.tasks.ai.config import AiConfig
from fourlane.tasks.ai.figures import Seen, watched, words_of
from fourlane.tasks.ai.models.ends import warn
from fourlane.tasks.ai.money.booking import Booked, Booking, Reserved
from fourlane.tasks.ai.money.budget_rules import NANO
from fourlane.tasks.ai.money.budgets import BudgetSpent
from fourlane.tasks.ai.money.prices import Charge, charge
from fourlane.tasks.ai.money.taken import Taken
from fourlane.tasks.ai.paid.kept import Keeper, Kept
from fourlane.tasks.ai.paid.reply import Reply, reply_of
from fourlane.tasks.ai.paid.speaking import Speaker
from fourlane.tasks.ai.paid.starts import in_turn
from fourlane.tasks.ai.paid.work import SAYS, NotAccepted, Work
from fourlane.tasks.context import current_job, running
from fourlane.tasks.health import health
from fourlane.tasks.steps import step, step_key

__all__ = ["pay"]

_Ask = Callable[[str, Seen, Taken], Awaitable[Answer]]
"""Has a model's answer, of ``provider/model``."""

log = logging.getLogger("fourlane.ai")


T = TypeVar("T")

_BOOKING_SECONDS: Final = 20.0
_LAST_SECONDS: Final = 5.0  # that a job which shall end is given to keep what it paid for


async def pay(config: AiConfig, work: Work, *, name: str, tenant: str | None) -> Reply:
    """Have a piece of work done, as the step ``ai:NAME``.

    Outside of a job, and in a handler straight from SQS, nothing is recorded: who calls again pays again.

    Raises:
      NotAccepted: an answer came, but ended in a way that is not accepted, of all models that may be asked.
      Reject: it can never succeed, or the budget is spent.
      RateLimited: the provider is down or at its limit, and no fallback is well.
      whatever the SDK raised last.
    """
    paying = _Paying(config, work, f"ai:{name}", tenant)
    async with step[Any](paying.step) as paid:  # which the keeper records
        if not paid.recorded:
            return (await paying.answer())["reply"]
        kept = await paying.keeper.recall(paying.step, paid.result)
    return (await paying.again(kept))["reply"]


class _Paying:
    """A piece of work on its way through models, budget and health."""

    def __init__(self, config: AiConfig, work: Work, step: str, tenant: str | None) -> None:
        self.config = config
        self.work = work
        self.step = step
        self.key = step_key(step) if current_job() is not None else f"fourlane-{uuid.uuid4()}"
        self.tenant = tenant
        self.speaker = Speaker(silent=work.silent)
        self.keeper = Keeper(tenant, work.inline_bytes)
        self.booking = Booking(config, work, self.key, tenant)

    async def again(self, kept: Kept) -> Kept:
        """An answer of an earlier run, which may have died before it said or booked all of it."""
        self.speaker.begin()
        self.speaker.say(kept["reply"]["text"])
        await self._book(kept["booked"])
        return kept

    async def answer(self) -> Kept:
        """Have it done, unless an earlier run did. Raises as pay does."""
        found = await self.keeper.before(self.step, makes_files=self.work.makes_files)
        if found is not None:
            return await self.again(found)
        return await self._first_that_answers()

    async def _first_that_answers(self) -> Kept:
        """From the model that was asked, in a batch or at once, or from the first fallback that answers."""
        models = list(self.config.living(self.work.model))
        failed: list[Exception] = []
        batched = self._batched(models[0])
        if batched is not None and await batched.wanted():
            kept = await self._try(models.pop(0), self._out_of(batched), failed)
            if kept is not None:
                return kept
        if models:
            await self._ready()
        for full in models:
            kept = await self._try(full, self._answer_of(full, self._answer, self.booking), failed)
            if kept is not None:
                return kept
        raise _most_hopeful(failed)

    def _batched(self, full: str) -> Batched | None:
        """None: it is asked at once, as a fallback is whose provider has no batches."""
        if self.work.request is None or not has_batches(account_of(self.config, full)):
            return None
        return Batched(self.config, self.work, full, step=self.step, key=self.key, tenant=self.tenant)

    async def _ready(self) -> None:
        if self.work.ready is not None:
            await self.work.ready()

    async def _try(self, full: str, answer: Awaitable[Kept], failed: list[Exception]) -> Kept | None:
        """None: the model did not answer, and another may."""
        warn(self.config, full)
        try:
            return await answer
        except (BudgetSpent, Parked):
            raise
        except Exception as error:
            log.warning("%s did not answer: %s", full, words_of(error))
            failed.append(error)
            return None

    async def _out_of(self, batched: Batched) -> Kept:
        """The kept answer out of a batch. Raises Parked: it is to come."""
        if not batched.is_asked:
            await self._ready()
        half = replace(self.work, most=replace(self.work.most, half=True))

        async def ask(full: str, seen: Seen, taken: Taken) -> Answer:
            answer = taken.answered(await batched.answer())
            self.speaker.begin()
            self.speaker.say(answer.text)
            return answer

        try:
            kept = await self._answer_of(batched.full, ask, Booking(self.config, half, self.key, self.tenant))
        except NotAccepted:
            await batched.forget()
            raise
        await batched.forget()
        return kept

    async def _answer_of(self, full: str, ask: _Ask, booking: Booking) -> Kept:
        """The kept answer of a model. One that is not accepted is recorded by itself: it is paid for, and once."""
        run, refused = running.get(), self._step_of_refused(full)
        if run is not None and run.steps is not None and run.steps.has(refused):
            kept = await self.keeper.recall(refused, run.steps.value(refused))
            await self._book(kept["booked"])
        else:
            kept = await self._pay(full, ask, booking)
            if kept["reply"]["outcome"] in self.work.accept:
                return kept
        raise NotAccepted(kept["booked"]["error"], kept["reply"])

    def _step_of_refused(self, full: str) -> str:
        return f"{self.step}@{full}"

    async def _pay(self, full: str, ask: _Ask, booking: Booking) -> Kept:
        taken = Taken(booking.most)
        with watched(self.work.operation, full, self.tenant) as seen:
            reserved = await booking.reserve(full, seen, taken)
            try:
                answer = await ask(full, seen, taken)
            except Parked:
                raise  # what is reserved stays so
            except BaseException as error:
                seen.outcome, seen.error = "error", words_of(error)
                await asyncio.shield(self._failed(reserved, taken, error, seen))
                if is_fault_of_ours(error):
                    raise Reject(f"{full}: {seen.error}") from error
                raise
            return await self._to_its_end(self._keep(reserved, taken, answer, seen))

    async def _keep(self, reserved: Reserved, taken: Taken, answer: Answer, seen: Seen) -> Kept:
        """Keep and book an answer. Nothing that befalls one of these keeps the other from being done."""
        full, is_accepted = reserved.call.model, answer.outcome in self.work.accept
        charged, answer = self._charged(full, taken), replace(answer, usage=taken.total)
        seen.tell(answer, charged)
        if not charged.priced:
            log.warning("no price is known for %s; give one in FOURLANE_AI", full)
        if not is_accepted:
            seen.error = f"{full} {SAYS[answer.outcome]} ({answer.finish})"
        step = self.step if is_accepted else self._step_of_refused(full)
        files = self.keeper.files(step, answer.media)
        booked = reserved.paid(answer, charged, outcome=answer.outcome, error=seen.error)
        try:
            return await self.keeper.keep(
                step, {"reply": reply_of(full, answer, charged, list(files)), "booked": booked}, files
            )
        finally:
            await self._book(booked)

    def _charged(self, full: str, taken: Taken) -> Charge:
        """What it cost. A table of prices that fails on it does not undo what is paid for."""
        try:
            return charge(self.config, full, taken.usages)
        except Exception:
            log.exception("what a call of %s cost cannot be told", full)
            return Charge(0, known=False, estimated=True)

    async def _book(self, booked: Booked) -> None:
        """Book an answer. In a job a later run may do it, where Redis is away; elsewhere the answer counts for more."""
        fault = await self._booked(lambda: self.booking.book(booked), booked, _BOOKING_SECONDS)
        if fault is not None and current_job() is not None:
            raise fault

    async def _booked(
        self, book: Callable[[], Awaitable[None]], booked: Booked, patience_seconds: float
    ) -> RedisUnavailable | None:
        """Book, once Redis is there; why not, where it stays away."""
        until = time.monotonic() + patience_seconds
        while True:
            try:
                await book()
                return None
            except RedisUnavailable as fault:
                if time.monotonic() > until:
                    dollars = booked.get("nano", 0) / NANO
                    log.error("%.6f dollars for %s are not booked: %s", dollars, booked["full"], fault)
                    return fault
            await asyncio.sleep(1)

    async def _to_its_end(self, keeping: Coroutine[Any, Any, T]) -> T:
        """Of what is paid for: a cancel waits until it is kept, a little."""
        kept = asyncio.ensure_future(keeping)
        try:
            return await asyncio.shield(kept)
        except asyncio.CancelledError:
            self.keeper.hurry()
            await asyncio.wait([kept], timeout=_LAST_SECONDS)
            raise

    async def _failed(self, reserved: Reserved, taken: Taken, error: BaseException, seen: Seen) -> None:
        """Book what a call cost that failed: what its tries took."""
        answer = replace(getattr(error, "answer", None) or Answer(), usage=taken.total)
        charged = self._charged(reserved.call.model, taken)
        seen.tell(answer, charged)
        was_called = bool(taken.usages) or not isinstance(error, (ProviderDown, ProviderLimited, BudgetSpent))
        booked = reserved.paid(answer, charged, outcome="error", error=seen.error)
        # What the provider said counts for more than what befalls the books.
        patience_seconds = _BOOKING_SECONDS if taken.usages else 0.0
        await self._booked(lambda: self.booking.book_failed(booked, made=was_called), booked, patience_seconds)

    def _key_of(self, full: str) -> str:
        """The idempotency key of a model: a fallback is asked something else, as those who honour keys see it."""
        return self.key if full == self.config.resolve(self.work.model) else f"{self.key}@{full}"

    async def _answer(self, full: str, seen: Seen, taken: Taken) -> Answer:
        """Ask, when health and limits let it through."""
        provider, _, model = full.partition("/")
        rules = self.config.rules(full, silence_seconds=self.work.seconds)
        account, key = self.config.account(provider, rules.timeout_seconds), self._key_of(full)
        await loaded(provider)

        async def attempt(permit: Permit) -> Answer:
            def heard(text: str) -> None:
                permit.heard()
                taken.heard(text)
                self.speaker.say(text)

            if taken.usages:  # what broke off before is paid for too
                await self.booking.reserve(full, seen, taken)
            await in_turn()
            self.speaker.begin()
            taken.begin()
            try:
                answer = taken.answered(await self.work.ask(account, model, key, heard))
            except BaseException as error:
                permit.used_tokens = taken.broke(error).usage.tokens or None
                raise
            permit.used_tokens = answer.usage.tokens or None
            permit.silence_ms = answer.silence_ms
            return answer

        # A job that always fails counts once, however many calls it makes.
        caller = self.key if (job := current_job()) is None else job.id
        return await health.here().acall(
            self.config.target(full), rules, attempt, read=read_error, tokens=self.work.most.tokens, call_id=caller
        )


def _most_hopeful(failed: list[Exception]) -> Exception:
    """What to raise of what befell the models: where waiting helps the job waits, where trying again does it tries."""
    waits = [error for error in failed if isinstance(error, RateLimited)]
    if waits:
        return min(waits, key=lambda error: error.delay_ms)
    return next((error for error in failed if not isinstance(error, Reject)), failed[0])
