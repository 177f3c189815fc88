"""Transcriptions: a sound is written down."""

from __future__ import annotations

from typing import Any

from fourlane.providers.ai.accounts import Account, client
from fourlane.providers.ai.answer import Answer
from fourlane.providers.ai.counts import Counts
from fourlane.providers.ai.media.faults import said_clearly
from fourlane.providers.ai.media.wishes import HearWish
from fourlane.providers.ai.question import header_of
from fourlane.providers.ai.usage import NOTHING, Usage

__all__ = ["transcribe"]


async def transcribe(account: Account, model: str, wish: HearWish, *, key: str) -> Answer:
    """The text of a sound; where the model tells speakers apart, each of their lines begins with who speaks."""
    given: dict[str, Any] = _forms(model, wish)
    with said_clearly(account):
        heard = await client(account).audio.transcriptions.create(
            model=model,
            file=(wish.sound.name or "sound", wish.sound.data, wish.sound.media_type),
            extra_headers=header_of(key),
            **given,
        )
    segments = getattr(heard, "segments", None) if "diarize" in model else None
    spoken = [(getattr(one, "speaker", None) or "?", getattr(one, "text", None) or "") for one in segments or ()]
    # A gateway that gives bare text has it come as that.
    text = "\n".join(f"{speaker}: {words.strip()}" for speaker, words in spoken) or (
        heard if isinstance(heard, str) else getattr(heard, "text", None) or ""
    )
    return Answer(outcome="ok" if text.strip() else "empty", finish="stop", text=text, usage=_usage_of(heard))


def _forms(model: str, wish: HearWish) -> dict[str, Any]:
    """What a family of models takes: each has a form of its own that says most."""
    given: dict[str, Any] = {"response_format": "json"}
    if model.startswith("whisper"):
        given["response_format"] = "verbose_json"  # which alone tells how long it was
    elif "diarize" in model:
        given |= {"response_format": "diarized_json", "chunking_strategy": "auto"}
    if wish.language:
        given |= {"languages": [wish.language]} if model.startswith("gpt-transcribe") else {"language": wish.language}
    if wish.prompt and "diarize" not in model:
        given["prompt"] = wish.prompt
    return given


def _usage_of(heard: Any) -> Usage:
    """Seconds or tokens, as the family is billed."""
    told = getattr(heard, "usage", None)
    said = Counts(told)
    seconds = said.seconds("seconds") or Counts(heard).seconds("duration")
    if getattr(told, "type", "") == "tokens":
        return Usage(
            input_tokens=said.of("input_tokens"),
            input_audio_tokens=said.part("input_token_details").of("audio_tokens"),
            output_tokens=said.of("output_tokens"),
            audio_seconds=seconds,
        )
    return Usage(audio_seconds=seconds) if seconds else NOTHING
