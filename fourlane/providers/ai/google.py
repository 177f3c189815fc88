"""Google's Gemini API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final

from fourlane.providers.ai.accounts import Account, client
from fourlane.providers.ai.answer import Outcome
from fourlane.providers.ai.pieces import Piece
from fourlane.providers.ai.question import Question
from fourlane.providers.ai.usage import Usage

__all__ = ["stream"]

_OUTCOMES: Final[dict[str, Outcome]] = {"STOP": "ok", "MAX_TOKENS": "truncated"}


async def stream(account: Account, question: Question) -> AsyncGenerator[Piece, None]:
    """The pieces of an answer."""
    config: dict[str, Any] = {"max_output_tokens": question.max_tokens}
    if question.system:
        config["system_instruction"] = question.system
    opened = await client(account).aio.models.generate_content_stream(
        model=question.model, contents=question.messages[-1].text, config=config
    )
    async for chunk in opened:
        blocked = getattr(chunk.prompt_feedback, "block_reason", None)
        if blocked:
            yield Piece(finish=_word(blocked), outcome="blocked")
        for candidate in chunk.candidates or ():
            for part in (candidate.content.parts if candidate.content else None) or ():
                yield Piece(text="" if part.thought else part.text or "")
            if candidate.finish_reason:
                finish = _word(candidate.finish_reason)
                yield Piece(finish=finish, outcome=_OUTCOMES.get(finish, "blocked"))
        used = chunk.usage_metadata
        if used is not None:
            yield Piece(
                usage=Usage(
                    input_tokens=used.prompt_token_count or 0,
                    output_tokens=(used.candidates_token_count or 0) + (used.thoughts_token_count or 0),
                    reasoning_tokens=used.thoughts_token_count or 0,
                )
            )


def _word(value: Any) -> str:
    return str(getattr(value, "value", value))
