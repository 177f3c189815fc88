"""Images and sound: what is made and heard. Only of those that speak as OpenAI does."""

from __future__ import annotations

import base64

from fourlane.errors import Reject
from fourlane.providers.ai.accounts import Account, client
from fourlane.providers.ai.answer import Answer, CutStream
from fourlane.providers.ai.question import Media, header_of
from fourlane.providers.ai.usage import Usage

__all__ = ["image", "transcribe"]


async def image(account: Account, model: str, prompt: str, *, size: str, key: str) -> Answer:
    """Make an image; the text is its URL where the provider gives one."""
    made = await client(account).images.generate(
        model=model, prompt=prompt, size=size, n=1, extra_headers=header_of(key)
    )
    first = made.data[0] if made.data else None
    if first is None or not (first.url or first.b64_json):
        raise CutStream(f"{account.provider}/{model}: the answer holds no image", Answer())
    pictures = (Media(media_type="image/png", data=base64.b64decode(first.b64_json)),) if first.b64_json else ()
    return Answer(text=first.url or "", media=pictures, finish="stop", usage=Usage(images=1, image=size))


async def transcribe(account: Account, model: str, path: str, *, key: str) -> Answer:
    """The text of an audio file. Raises Reject: it cannot be read."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise Reject(f"{path} cannot be read: {error.strerror}") from None
    with file:
        heard = await client(account).audio.transcriptions.create(
            model=model, file=file, response_format="verbose_json", extra_headers=header_of(key)
        )
    seconds = float(getattr(heard, "duration", 0) or 0)
    return Answer(text=heard.text, finish="stop", usage=Usage(audio_seconds=seconds))
