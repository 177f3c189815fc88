"""What Gemini's models make: images and speech, by the same call as conversations."""

from __future__ import annotations

from typing import Any

from fourlane.providers.ai.accounts import Account, client
from fourlane.providers.ai.answer import Answer, Outcome
from fourlane.providers.ai.question import Media
from fourlane.providers.ai.usage import NOTHING, Usage

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
    blocked = getattr(said.prompt_feedback, "block_reason", None)
    outcome: Outcome = "ok" if media else "blocked" if blocked or finish not in ("", "STOP", "NO_IMAGE") else "empty"
    usage = NOTHING if said.usage_metadata is None else usage_of(said.usage_metadata)
    return Answer(
        outcome=outcome, finish=_word(blocked) or finish or "STOP", text=text, media=tuple(media), usage=usage
    )


def usage_of(told: Any) -> Usage:
    """What it says that the call took."""
    thoughts = told.thoughts_token_count or 0
    read = {_word(one.modality): one.token_count or 0 for one in told.prompt_tokens_details or ()}
    wrote = {_word(one.modality): one.token_count or 0 for one in told.candidates_tokens_details or ()}
    return Usage(
        input_tokens=told.prompt_token_count or 0,
        input_audio_tokens=read.get("AUDIO", 0),
        input_image_tokens=read.get("IMAGE", 0),
        output_tokens=(told.candidates_token_count or 0) + thoughts,
        reasoning_tokens=thoughts,
        output_audio_tokens=wrote.get("AUDIO", 0),
        output_image_tokens=wrote.get("IMAGE", 0),
    )


def _word(value: Any) -> str:
    return "" if value is None else str(getattr(value, "value", value))
