"""Sound as tasks: written down, and spoken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fourlane.providers.ai import Account, Answer, Usage
from fourlane.providers.ai.media import HearWish, SpeechWish, check_speech
from fourlane.providers.ai.media import speak as say
from fourlane.providers.ai.media import transcribe as hear
from fourlane.storage.media import AUDIO
from fourlane.tasks.ai.config import configured
from fourlane.tasks.ai.hopeless import as_rejects, models_for
from fourlane.tasks.ai.media.sources import check_sources, read_media
from fourlane.tasks.ai.models.names import SPEECH_MODEL, TRANSCRIPTION_MODEL
from fourlane.tasks.ai.money.prices import count_tokens
from fourlane.tasks.ai.options import check_words, speaking_for
from fourlane.tasks.ai.paid.paying import pay
from fourlane.tasks.ai.paid.reply import Reply
from fourlane.tasks.ai.paid.work import ACCEPTED, Work
from fourlane.tasks.ai.whose import whose
from fourlane.tasks.task import task

__all__ = ["speak", "transcribe"]

_MOST_SOUND_BYTES: Final = 25 * 1024 * 1024
_KINDS: Final = AUDIO | {"video/mp4", "video/webm"}
_HEARING_SECONDS: Final = 300.0
_SPEAKING_SECONDS: Final = 120.0
# Ten minutes, by whatever it is paid: how long a sound is nobody knows before.
_MOST_HEARD: Final = Usage(audio_seconds=600.0, input_tokens=12_000, input_audio_tokens=12_000, output_tokens=3_000)
_TOKENS_A_CHARACTER: Final = 2  # of speech, at about 15 characters and 25 tokens a second
_OPTIONS: Final[dict[str, Any]] = {"service": "ai", "result_ttl_ms": 86_400_000, "timeout_ms": 900_000}


@speaking_for("transcribe")
def _check_sound(
    source: str,
    *,
    model: str = TRANSCRIPTION_MODEL,
    language: str = "",
    prompt: str = "",
    tenant: str | None = None,
    name: str | None = None,
) -> None:
    """Raises InvalidArguments."""
    check_words(language=language, prompt=prompt)
    tenant = whose(tenant)
    models_for("transcribe", model, {"source": source}, tenant=tenant, name=name)
    check_sources([source], tenant=tenant)


@task(name="fourlane.ai.transcribe", check=_check_sound, **_OPTIONS)
async def transcribe(
    source: str,
    *,
    model: str = TRANSCRIPTION_MODEL,
    language: str = "",
    prompt: str = "",
    tenant: str | None = None,
    name: str | None = None,
) -> Reply:
    """The text of a sound; of one in which nobody speaks it is empty, and the reply's outcome says so.

    Parameters:
      source: where the sound is: a URL, a storage reference, a path.
      language: of ISO 639-1, where it is known.
      prompt: what it is about, names that occur in it.
      name: of the step; give one where a job makes several calls.
    """
    with as_rejects():
        tenant = whose(tenant)
        _check_sound(source, model=model, language=language, prompt=prompt, tenant=tenant, name=name)
    sound: tuple[Any, ...] = ()

    async def ready() -> None:
        nonlocal sound
        sound = await read_media([source], tenant=tenant, kinds=_KINDS, most_bytes=_MOST_SOUND_BYTES)

    async def ask(account: Account, model: str, key: str, heard: Callable[[str], None]) -> Answer:
        return await hear(account, model, HearWish(sound=sound[0], language=language, prompt=prompt), key=key)

    work = Work(
        operation="transcribe",
        model=model,
        ask=ask,
        most=_MOST_HEARD,
        accept=(*ACCEPTED, "empty"),
        ready=ready,
        seconds=_HEARING_SECONDS,
    )
    return await pay(configured(), work, name=name or "transcribe", tenant=tenant)


@speaking_for("speak")
def _speech(
    text: str,
    *,
    model: str = SPEECH_MODEL,
    voice: str = "",
    format: str = "",
    instructions: str = "",
    tenant: str | None = None,
    name: str | None = None,
) -> SpeechWish:
    """What is wished for. Raises InvalidArguments."""
    check_words(voice=voice, format=format, instructions=instructions)
    models = models_for("speak", model, {"text": text}, tenant=tenant, name=name)
    wish = SpeechWish(text=text, voice=voice, format=format, instructions=instructions)
    for full in models:
        check_speech(full, wish)
    return wish


def _check_speech(*args: Any, **options: Any) -> None:
    _speech(*args, **options | {"tenant": whose(options.get("tenant"))})


@task(name="fourlane.ai.speak", check=_check_speech, **_OPTIONS)
async def speak(
    text: str,
    *,
    model: str = SPEECH_MODEL,
    voice: str = "",
    format: str = "",
    instructions: str = "",
    tenant: str | None = None,
    name: str | None = None,
) -> Reply:
    """Speak a text; ``files`` of the reply has the reference of the sound.

    Parameters:
      voice: one of the provider's; empty: its first.
      format: ``mp3``, ``wav`` …, as the provider has it; empty: its first.
      instructions: how to speak.
      name: of the step; give one where a job makes several calls.
    """
    with as_rejects():
        tenant = whose(tenant)
        wish = _speech(
            text, model=model, voice=voice, format=format, instructions=instructions, tenant=tenant, name=name
        )

    async def ask(account: Account, model: str, key: str, heard: Callable[[str], None]) -> Answer:
        return await say(account, model, check_speech(f"{account.provider}/{model}", wish), key=key, heard=heard)

    spoken = len(text) * _TOKENS_A_CHARACTER
    most = Usage(
        input_tokens=count_tokens(text, instructions),
        output_tokens=spoken,
        output_audio_tokens=spoken,
        characters=len(text),
    )
    work = Work(operation="speak", model=model, ask=ask, most=most, makes_files=True, seconds=_SPEAKING_SECONDS)
    return await pay(configured(), work, name=name or "speak", tenant=tenant)
