"""Speech: a text is spoken."""

from __future__ import annotations

import base64
import io
import json
import re
import wave
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from fourlane.providers.ai.accounts import Account, client
from fourlane.providers.ai.answer import Answer, CutStream
from fourlane.providers.ai.counts import Counts
from fourlane.providers.ai.media.faults import said_clearly
from fourlane.providers.ai.media.gemini import made
from fourlane.providers.ai.media.wishes import SpeechWish
from fourlane.providers.ai.question import Media, header_of
from fourlane.providers.ai.usage import Usage

__all__ = ["speak"]

_MEDIA_TYPES: Final = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
}
_GOOGLE_RATE: Final = 24_000


async def speak(account: Account, model: str, wish: SpeechWish, *, key: str, heard: Callable[[str], None]) -> Answer:
    """Speak a text; the sound is the answer's one file."""
    with said_clearly(account):
        if account.provider == "google":
            return await _by_gemini(account, model, wish)
        return await _by_openai(account, model, wish, key, heard)


async def _by_gemini(account: Account, model: str, wish: SpeechWish) -> Answer:
    voice = {"voice_config": {"prebuilt_voice_config": {"voice_name": wish.voice}}}
    words = f"{wish.instructions}: {wish.text}" if wish.instructions else wish.text
    config = {"response_modalities": ["AUDIO"], "speech_config": voice}
    answer = await made(account, model, [{"text": words}], config)
    return replace(answer, text="", media=tuple(_as_wav(one) for one in answer.media))


def _as_wav(sound: Media) -> Media:
    """Gemini gives bare samples, and says how many a second."""
    if not sound.media_type.lower().startswith("audio/l16"):
        return sound
    rate = re.search(r"rate=(\d+)", sound.media_type)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(int(rate[1]) if rate else _GOOGLE_RATE)
        out.writeframes(sound.data)
    return Media(media_type="audio/wav", data=file.getvalue())


async def _by_openai(account: Account, model: str, wish: SpeechWish, key: str, heard: Callable[[str], None]) -> Answer:
    usage = Usage(characters=len(wish.text))
    sound: list[bytes] = []
    given: dict[str, Any] = {"instructions": wish.instructions} if wish.instructions else {}
    if not model.startswith("tts-1"):  # which are paid by characters; others by tokens, that events alone tell
        given["stream_format"] = "sse"
    voice: Any = {"id": wish.voice} if wish.voice.startswith("voice_") else wish.voice
    try:
        async with client(account).audio.speech.with_streaming_response.create(
            model=model,
            input=wish.text,
            voice=voice,
            response_format=wish.format,
            extra_headers=header_of(key),
            **given,
        ) as spoken:
            if "event-stream" in spoken.headers.get("content-type", ""):
                usage = await _events(spoken, sound, usage, heard)
            else:
                async for piece in spoken.iter_bytes():
                    sound.append(piece)
                    heard("")
    except Exception as error:
        if sound:
            error.answer = Answer(usage=usage)  # type: ignore[attr-defined]
        raise
    media = Media(media_type=_MEDIA_TYPES[wish.format], data=b"".join(sound), name=f"speech.{wish.format}")
    if not media.data:
        return Answer(outcome="empty", finish="stop", usage=usage)
    return Answer(finish="stop", media=(media,), usage=usage)


async def _events(spoken: Any, sound: list[bytes], usage: Usage, heard: Callable[[str], None]) -> Usage:
    """Gather the sound of events; what it took. Raises CutStream."""
    async for line in spoken.iter_lines():
        if not line.startswith("data:"):
            continue
        event = json.loads(line.removeprefix("data:"))
        if event.get("type") == "speech.audio.delta":
            sound.append(base64.b64decode(event.get("audio") or ""))
            heard("")
        elif event.get("type") == "speech.audio.done":
            said = Counts(event.get("usage"))
            return Usage(
                input_tokens=said.of("input_tokens"),
                output_tokens=said.of("output_tokens"),
                output_audio_tokens=said.of("output_tokens"),
                characters=usage.characters,
                told=bool(said),
            )
    raise CutStream("the speech broke off", Answer(usage=usage))
