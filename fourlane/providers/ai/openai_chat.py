"""OpenAI's chat completions, which Perplexity, OpenRouter and many gateways speak too."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final

from fourlane.providers.ai.accounts import Account, client
from fourlane.providers.ai.answer import Outcome
from fourlane.providers.ai.pieces import Piece
from fourlane.providers.ai.question import Question, header_of
from fourlane.providers.ai.usage import Usage
from fourlane.providers.signals import quota_silence_ms

__all__ = ["stream"]

_OUTCOMES: Final[dict[str, Outcome]] = {
    "length": "truncated",
    "tool_calls": "tool_calls",
    "content_filter": "blocked",
    "refusal": "refused",
}


async def stream(account: Account, question: Question) -> AsyncGenerator[Piece, None]:
    """The pieces of an answer."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": question.system}] if question.system else []
    messages += ({"role": message.role, "content": message.text} for message in question.messages)
    opened = await client(account).chat.completions.create(
        model=question.model,
        messages=messages,
        max_tokens=question.max_tokens,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers=header_of(question.idempotency_key),
    )
    refused = ""
    async with opened:
        yield Piece(silence_ms=quota_silence_ms(opened.response.headers))
        async for chunk in opened:
            if chunk.usage is not None:
                yield Piece(
                    usage=Usage(
                        input_tokens=chunk.usage.prompt_tokens or 0, output_tokens=chunk.usage.completion_tokens or 0
                    )
                )
            for choice in chunk.choices or ():
                if getattr(choice.delta, "refusal", None):
                    refused = "refusal"
                finish = refused or choice.finish_reason or ""
                yield Piece(text=choice.delta.content or "", finish=finish, outcome=_OUTCOMES.get(finish))
