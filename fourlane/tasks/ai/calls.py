"""Calls for tasks of one's own: ask a model, have an image made or a sound transcribed."""

from __future__ import annotations

from typing import Unpack

from fourlane.tasks.ai.checks import check_asking
from fourlane.tasks.ai.hopeless import as_rejects
from fourlane.tasks.ai.media.images import image
from fourlane.tasks.ai.media.sound import transcribe
from fourlane.tasks.ai.paid.reply import Reply
from fourlane.tasks.ai.paid.starts import in_turn
from fourlane.tasks.ai.text.answering import answer
from fourlane.tasks.ai.text.asking import TextOptions, asking

__all__ = ["call"]


async def call(
    operation: str, prompt: str | None = None, *, size: str = "auto", **options: Unpack[TextOptions]
) -> Reply:
    """Make one paid call as a step, inside an async task of your own or outside of any.

    Outside of a job, and in a handler straight from SQS, nothing is recorded: who calls again pays again.

    Parameters:
      operation: a word for rows, figures and the step; ``image`` and ``transcribe`` are those tasks.
      **options: ``TextOptions``; ``schema`` may be a pydantic model, ``tools`` may be functions.

    Raises:
      NotAccepted: the answer was refused or blocked, is empty, or does not keep the schema.
      Reject: it can never succeed, or the budget is spent.
      RateLimited: the provider is down or at its limit, and no fallback is well.
      whatever the SDK raised last.
    """
    if operation == "image":
        painted: Reply = await image(prompt or "", size=size, **options)  # type: ignore[misc]
        return painted
    if operation == "transcribe":
        heard: Reply = await transcribe(prompt or "", **options)  # type: ignore[misc]
        return heard
    await in_turn()
    with as_rejects():
        asked = asking(operation, prompt, **options)
        check_asking(asked)
    return await answer(asked)
