"""One paid call: checked, budgeted, made where there is room, recorded, booked."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
import uuid
from typing import TypedDict

from fourlane.errors import FourlaneError, InvalidArguments, ProviderDown, ProviderLimited, RateLimited, Reject
from fourlane.providers import ai as providers
from fourlane.providers.ai import Answer, ContentRefused, CutStream, Question
from fourlane.providers.health import Permit
from fourlane.tasks.ai.budgets import budgets, month_now, reserve
from fourlane.tasks.ai.checks import check
from fourlane.tasks.ai.config import MICRO, AiConfig, configured
from fourlane.tasks.ai.figures import NOBODY, Seen, watched
from fourlane.tasks.ai.prices import cost, count_tokens, most
from fourlane.tasks.ai.rows import write_row
from fourlane.tasks.context import current_job, running
from fourlane.tasks.health import health
from fourlane.tasks.steps import step, step_key

__all__ = ["Reply", "call"]

log = logging.getLogger("fourlane.ai")


class Reply(TypedDict):
    """The result of a call. Costs in dollars; ``cost_known`` is false where no price is known."""

    text: str
    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float
    cost_known: bool


class _Kept(TypedDict):
    """What the step records: the reply, and what the books need.

    micro: millionths of a dollar. refused: why the provider refused the content; else empty. row: the row's id.
    """

    reply: Reply
    refused: str
    micro: int
    month: str
    ms: int
    row: str


async def call(
    operation: str,
    prompt: str,
    *,
    model: str = "gpt-4o",
    system: str | None = None,
    max_tokens: int = 1_024,
    tenant: str | None = None,
    name: str | None = None,
    size: str = "1024x1024",
) -> Reply:
    """Make one paid call as a step, inside an async task of your own or outside of any.

    Outside of a job, and in a handler straight from SQS, nothing is recorded: who calls again pays again.

    Parameters:
      tenant: whose budget and rows; that of the job that runs here by default.
      name: of the step; give one where a job makes several calls of an operation.

    Raises:
      Reject: it can never succeed, or the provider refuses the content, or the budget is spent.
      RateLimited: the provider is down or at its limit, and no fallback is well.
      whatever the SDK raised last.
    """
    job = current_job()
    tenant = tenant or (job.tenant if job is not None else "") or None
    try:
        check(model, prompt, max_tokens, tenant, system)
    except InvalidArguments as error:
        raise Reject(str(error)) from None
    name = name or operation
    key = step_key(f"ai:{name}") if job is not None else f"fourlane-{uuid.uuid4()}"
    question = Question(
        model=model, prompt=prompt, system=system, max_tokens=max_tokens, size=size, idempotency_key=key
    )
    one = _Call(configured(), operation, question, tenant)
    async with step[_Kept](f"ai:{name}") as paid:
        if not paid.recorded:
            paid.result = await one.pay()
    kept: _Kept = paid.result
    if paid.recorded:
        one.say(kept["reply"]["text"])
    # Both do nothing the second time, so a worker may die between any two of these lines.
    await one.book(kept)
    if kept["refused"]:
        raise Reject(kept["refused"])
    return kept["reply"]


class _Call:
    """One call on its way: to the first model that is well, through budget and health."""

    def __init__(self, config: AiConfig, operation: str, question: Question, tenant: str | None) -> None:
        self.config = config
        self.operation = operation
        self.question = question
        self.tenant = tenant
        self.job = current_job()

    async def pay(self) -> _Kept:
        """Raises as call does."""
        asked = self.question.model
        waits: list[RateLimited] = []
        for candidate in (asked, *self.config.fallbacks.get(asked, ())):
            full = self.config.resolve(candidate)
            try:
                with watched(self.operation, full, self.tenant) as seen:
                    return await self._pay(full, seen)
            except (ProviderDown, ProviderLimited) as error:
                waits.append(error)
        raise min(waits, key=lambda error: error.delay_ms)

    async def _pay(self, full: str, seen: Seen) -> _Kept:
        month, started = month_now(), time.monotonic()
        await self._reserve(full, month, seen)
        refused = ""
        try:
            answer = await self._answer(full)
        except ContentRefused as error:
            answer, refused = error.answer, str(error)
            seen.outcome, seen.error = "refused", refused
        except BaseException as error:
            seen.outcome, seen.error = "error", _words(error)
            await asyncio.shield(self._failed(full, month, started, error, seen))
            if providers.read_error(error).verdict == "neutral" and _is_fault_of_ours(error):
                raise Reject(f"{full}: {_words(error)}") from error
            raise
        dollars = self._cost(full, answer, seen)
        if dollars is None:
            log.warning("no price is known for %s; give one in FOURLANE_AI", full)
        return {
            "reply": {
                "text": answer.text,
                "model": full,
                "input_tokens": answer.input_tokens,
                "output_tokens": answer.output_tokens,
                "cost_usd": dollars or 0.0,
                "cost_known": dollars is not None,
            },
            "refused": refused,
            "micro": _micro(dollars),
            "month": month,
            "ms": _ms_since(started),
            "row": str(uuid.uuid4()),
        }

    async def _answer(self, full: str) -> Answer:
        """Ask, when health and limits let it through."""
        provider, _, model = full.partition("/")
        rules = self.config.rules(full)
        account = self.config.account(provider, rules.timeout_seconds)
        question = dataclasses.replace(self.question, model=model)

        async def attempt(permit: Permit) -> Answer:
            try:
                answer = await self._ask(account, question)
            except (ContentRefused, CutStream) as error:
                permit.used_tokens = error.answer.tokens or None
                raise
            permit.used_tokens = answer.tokens or None
            permit.silence_ms = answer.silence_ms
            return answer

        tokens = count_tokens(question.prompt, question.system) + question.max_tokens
        return await health.here().acall(
            self.config.target(full), rules, attempt, read=providers.read_error, tokens=tokens
        )

    async def _ask(self, account: providers.Account, question: Question) -> Answer:
        if self.operation == "image":
            return await providers.image(account, question)
        if self.operation == "transcribe":
            return await providers.transcribe(account, question)
        self.begin()
        return await providers.ask(account, question, self.say)

    # What is said -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A call that is made again says all of it again."""
        run = running.get()
        if run is not None and run.output is not None:
            run.output.begin()

    def say(self, text: str) -> None:
        run = running.get()
        if run is not None and run.output is not None:
            run.output.write(text)

    # Books --------------------------------------------------------------------------------------------------

    async def _reserve(self, full: str, month: str, seen: Seen) -> None:
        tokens = count_tokens(self.question.prompt, self.question.system)
        dollars = most(self.config, full, tokens, self.question.max_tokens)
        micro = _micro(None if dollars is None else float(dollars))
        key = self.question.idempotency_key
        try:
            await asyncio.to_thread(reserve, self.config, self.tenant, month, key, micro)
        except Reject as error:
            seen.made, seen.error = False, str(error)
            raise

    def _cost(self, full: str, answer: Answer, seen: Seen) -> float | None:
        dollars = cost(self.config, full, answer)
        seen.answer, seen.cost_usd = answer, None if dollars is None else float(dollars)
        return seen.cost_usd

    async def book(self, kept: _Kept) -> None:
        reply = kept["reply"]
        await self._settle(reply["model"], kept["month"], kept["micro"])
        answer = Answer("", reply["input_tokens"], reply["output_tokens"])
        await self._write_row(kept["row"], reply["model"], answer, kept["micro"], kept["ms"], kept["refused"])

    async def _failed(self, full: str, month: str, started: float, error: BaseException, seen: Seen) -> None:
        """Book what a call cost that failed: what had come of an answer that broke off."""
        micro = _micro(self._cost(full, getattr(error, "answer", Answer("")), seen))
        await self._settle(full, month, micro)
        if not isinstance(error, (ProviderDown, ProviderLimited)):  # then there was a call
            await self._write_row(str(uuid.uuid4()), full, seen.answer, micro, _ms_since(started), seen.error)

    async def _settle(self, full: str, month: str, micro: int) -> None:
        counted = (f"model:{full}", f"task:{self.job.task if self.job else self.operation}")
        key = self.question.idempotency_key
        await asyncio.to_thread(budgets.here().settle, self.tenant or NOBODY, month, key, micro, counted)

    async def _write_row(self, row_id: str, full: str, answer: Answer, micro: int, ms: int, error: str) -> None:
        if self.config.database is None:
            return
        provider, _, model = full.partition("/")
        row = {
            "id": uuid.UUID(row_id),
            "organization_id": _uuid(self.tenant),
            "job_id": self.job.id if self.job else None,
            "operation": self.operation,
            "provider": provider,
            "model": model,
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
            "cost_micro_usd": micro,
            "duration_ms": ms,
            "status": "error" if error else "ok",
            "error_message": error[:1_000] or None,
        }
        try:
            await asyncio.to_thread(write_row, self.config.database, row)
        except FourlaneError as fault:
            # The answer is paid for and recorded: a database that is away does not undo that.
            log.error("the row of an AI call of job %s was not written: %s", row["job_id"], fault)


def _is_fault_of_ours(error: BaseException) -> bool:
    """The provider said that this request can never succeed: wrong key, wrong model, too long, malformed."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    return isinstance(status, int) and 400 <= status < 500


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:1_000]


def _micro(dollars: float | None) -> int:
    return round((dollars or 0) * MICRO)


def _ms_since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)


def _uuid(tenant: str | None) -> uuid.UUID | None:
    try:
        return uuid.UUID(tenant) if tenant else None
    except ValueError:
        return None
