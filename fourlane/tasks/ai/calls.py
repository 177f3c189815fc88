"""Calls for tasks of one's own: ask a model, have an image made or a sound transcribed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fourlane.providers import ai as providers
from fourlane.providers.ai import Account, Answer, ChatMessage, Question, Usage
from fourlane.tasks.ai.checks import check
from fourlane.tasks.ai.config import configured
from fourlane.tasks.ai.hopeless import as_rejects, whose
from fourlane.tasks.ai.images import image
from fourlane.tasks.ai.paying import pay
from fourlane.tasks.ai.prices import count_tokens
from fourlane.tasks.ai.reply import Reply
from fourlane.tasks.ai.sound import transcribe
from fourlane.tasks.ai.work import Work

__all__ = ["call"]


async def call(
    operation: str,
    prompt: str,
    *,
    model: str = "gpt-4o",
    system: str | None = None,
    max_tokens: int = 1_024,
    tenant: str | None = None,
    name: str | None = None,
    size: str = "auto",
) -> Reply:
    """Make one paid call as a step, inside an async task of your own or outside of any.

    Outside of a job, and in a handler straight from SQS, nothing is recorded: who calls again pays again.

    Parameters:
      tenant: whose budget and rows; that of the job that runs here by default.
      name: of the step; give one where a job makes several calls of an operation.

    Raises:
      NotAccepted: the answer was refused or blocked, or is empty.
      Reject: it can never succeed, or the budget is spent.
      RateLimited: the provider is down or at its limit, and no fallback is well.
      whatever the SDK raised last.
    """
    if operation == "image":
        painted: Reply = await image(prompt, model=model, size=size, tenant=tenant, name=name)
        return painted
    if operation == "transcribe":
        heard: Reply = await transcribe(prompt, model=model, tenant=tenant, name=name)
        return heard
    tenant = whose(tenant)
    with as_rejects():
        check(model, prompt, max_tokens, tenant, system)

    def ask(account: Account, model: str, key: str, heard: Callable[[str], None]) -> Awaitable[Answer]:
        question = Question(
            model=model,
            messages=(ChatMessage(role="user", text=prompt),),
            system=system,
            max_tokens=max_tokens,
            idempotency_key=key,
        )
        return providers.ask(account, question, heard)

    most = Usage(input_tokens=count_tokens(prompt, system), output_tokens=max_tokens)
    work = Work(operation=operation, model=model, ask=ask, most=most)
    return await pay(configured(), work, name=name or operation, tenant=tenant)
