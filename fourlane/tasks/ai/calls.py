"""Calls for tasks of one's own: ask a model, have an image made or a sound transcribed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Unpack

from fourlane.errors import InvalidArguments, Reject
from fourlane.providers.ai import Account, Answer, Usage
from fourlane.providers.ai.media import image, transcribe
from fourlane.tasks.ai.answering import answer, refuse_hopeless
from fourlane.tasks.ai.asking import TextOptions, asking, tenant_of
from fourlane.tasks.ai.checks import check
from fourlane.tasks.ai.config import configured
from fourlane.tasks.ai.paying import pay
from fourlane.tasks.ai.reply import Reply
from fourlane.tasks.ai.work import Work

__all__ = ["call"]


async def call(
    operation: str, prompt: str | None = None, *, size: str = "1024x1024", **options: Unpack[TextOptions]
) -> Reply:
    """Make one paid call as a step, inside an async task of your own or outside of any.

    Outside of a job, and in a handler straight from SQS, nothing is recorded: who calls again pays again.

    Parameters:
      operation: a word for rows, figures and the step; ``image`` and ``transcribe`` make and hear.
      **options: ``TextOptions``; ``schema`` may be a pydantic model, ``tools`` may be functions.

    Raises:
      NotAccepted: the answer was refused or blocked, is empty, or does not keep the schema.
      Reject: it can never succeed, or the budget is spent.
      RateLimited: the provider is down or at its limit, and no fallback is well.
      whatever the SDK raised last.
    """
    if operation in ("image", "transcribe"):
        return await _media(operation, prompt or "", size, **options)
    try:
        asked = asking(operation, prompt, **options)
    except InvalidArguments as error:
        raise Reject(str(error)) from None
    refuse_hopeless(asked)
    return await answer(asked)


async def _media(
    operation: str, prompt: str, size: str, *, model: str, tenant: str | None = None, name: str | None = None, **_: Any
) -> Reply:
    tenant = tenant_of(tenant)
    try:
        check(model, prompt, 1, tenant)
    except InvalidArguments as error:
        raise Reject(str(error)) from None

    def ask(account: Account, model: str, key: str, heard: Callable[[str], None]) -> Awaitable[Answer]:
        if operation == "image":
            return image(account, model, prompt, size=size, key=key)
        return transcribe(account, model, prompt, key=key)

    most = Usage(images=1, image=size) if operation == "image" else Usage(audio_seconds=60.0)
    work = Work(operation=operation, model=model, ask=ask, most=most)
    return await pay(configured(), work, name=name or operation, tenant=tenant)
