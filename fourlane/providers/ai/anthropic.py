"""Anthropic's messages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from fourlane.providers.ai.accounts import Account, client
from fourlane.providers.ai.answer import Outcome
from fourlane.providers.ai.pieces import Piece
from fourlane.providers.ai.question import Question, header_of
from fourlane.providers.ai.usage import Usage
from fourlane.providers.signals import quota_silence_ms

__all__ = ["stream"]

_OUTCOMES: Final[dict[str, Outcome]] = {
    "max_tokens": "truncated",
    "model_context_window_exceeded": "truncated",
    "tool_use": "tool_calls",
    "refusal": "refused",
}


async def stream(account: Account, question: Question) -> AsyncGenerator[Piece, None]:
    """The pieces of an answer."""
    opened = await client(account).messages.create(
        model=question.model,
        max_tokens=question.max_tokens,
        messages=[{"role": message.role, "content": message.text} for message in question.messages],
        stream=True,
        extra_headers=header_of(question.idempotency_key),
        **({"system": question.system} if question.system else {}),
    )
    async with opened:
        yield Piece(silence_ms=quota_silence_ms(opened.response.headers))
        async for event in opened:
            if event.type == "message_start":
                yield Piece(usage=Usage(input_tokens=event.message.usage.input_tokens or 0))
            elif event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield Piece(text=event.delta.text)
            elif event.type == "message_delta":
                finish = event.delta.stop_reason or ""
                used = Usage(output_tokens=event.usage.output_tokens or 0)
                yield Piece(usage=used, finish=finish, outcome=_OUTCOMES.get(finish))
