"""What Gemini's models make: images and speech, by the same call as conversations."""

from __future__ import annotations

from typing import Any

from fourlane.providers.ai import outcomes
from fourlane.providers.ai.accounts import Account, client
from fourlane.providers.ai.answer import Answer, Outcome
from fourlane.providers.ai.google import usage_of
from fourlane.providers.ai.question import Media
from fourlane.providers.ai.usage import NOTHING

__all__ = ["made"]


async def made(account: Account, model: str, parts: list[dict[str, Any]], config: dict[str, Any]) -> Answer:
    """What it makes of these parts; the media of the answer, with what it says."""
    said = await client(account).aio.models.generate_content(
        model=model, contents=[{"role": "user", "parts": parts}], config=config
    )
    media, text, finish = [], "", ""
    for candidate in (said.candidates or ())[:1]:
        finish = _word(candidate.finish_reason)
        for part in (candidate.content.parts if candidate.content else None) or ():
            if part.thought:
                continue
            text += part.text or ""
            if part.inline_data is not None and part.inline_data.data:
                media.append(Media(media_type=part.inline_data.mime_type or "", data=part.inline_data.data))
    blocked = _word(getattr(said.prompt_feedback, "block_reason", None))
    told = said.usage_metadata
    usage = NOTHING if told is None else usage_of(told.model_dump(mode="json", by_alias=True, exclude_none=True))
    outcome = _outcome(finish, blocked, has_made=bool(media))
    return Answer(outcome=outcome, finish=blocked or finish or "STOP", text=text, media=tuple(media), usage=usage)


def _outcome(finish: str, blocked: str, *, has_made: bool) -> Outcome:
    if has_made:
        return "ok"
    outcome = "blocked" if blocked else outcomes.GOOGLE.get(finish, outcomes.unknown(False)) if finish else "ok"
    return "empty" if outcome == "ok" else outcome


def _word(value: Any) -> str:
    return "" if value is None else str(getattr(value, "value", value))
