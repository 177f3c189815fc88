"""What is wished of a model that makes or hears, checked as far as its family is known. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Final

from fourlane.errors import InvalidArguments
from fourlane.providers.ai.question import Media

__all__ = ["HearWish", "ImageWish", "SpeechWish", "check_image", "check_speech", "google_size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWish:
    """Images that are wished for.

    Parameters:
      size: ``auto`` or ``WIDTHxHEIGHT``; of Google's and OpenRouter's models also ``2K``, ``16:9`` or ``2K 16:9``.
      quality, background: as OpenAI names them.
      format: ``png``, ``jpeg`` or ``webp``.
      images: to be edited.
    """

    prompt: str
    size: str = "auto"
    quality: str = "auto"
    format: str = "png"
    background: str = "auto"
    n: int = 1
    images: tuple[Media, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechWish:
    """A text that is to be spoken. ``voice`` empty: the provider's first; ``format``: ``mp3``, ``wav`` …"""

    text: str
    voice: str = ""
    format: str = ""
    instructions: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HearWish:
    """A sound that is to be written down. ``language``: of ISO 639-1; empty: found out."""

    sound: Media
    language: str = ""
    prompt: str = ""


# Images -----------------------------------------------------------------------------------------------------------

_MOST_PROMPT: Final = 32_000
_MOST_IMAGES: Final = 10
_OLD_SIZES: Final = ("1024x1024", "1536x1024", "1024x1536")
_QUALITIES: Final = ("auto", "low", "medium", "high")
_HIGHER_QUALITIES: Final = ("xhigh", "max")
_FORMATS: Final = ("png", "jpeg", "webp")
_BACKGROUNDS: Final = ("auto", "opaque", "transparent")
_PIXELS: Final = re.compile(r"([1-9]\d{1,4})x([1-9]\d{1,4})")
_RATIOS: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
_LONGEST_EDGE: Final = 3_840
_MOST_PIXELS: Final = 3_840 * 2_160


def check_image(full: str, wish: ImageWish) -> None:
    """Refuse what its model can never make. Raises InvalidArguments."""
    provider, _, model = full.partition("/")
    if len(wish.prompt) > _MOST_PROMPT:
        raise InvalidArguments(f"the prompt has {len(wish.prompt):,} signs; an image takes {_MOST_PROMPT:,} at most")
    if type(wish.n) is not int or not 1 <= wish.n <= _MOST_IMAGES:
        raise InvalidArguments(f"n must be 1 to {_MOST_IMAGES}, not {wish.n!r}")
    _among("format", wish.format, _FORMATS)
    if provider != "openai":
        google_size(wish.size)
        for name in ("quality", "background"):
            if getattr(wish, name) != "auto":
                raise InvalidArguments(f"{name}: {full} knows none; leave it out")
        if wish.n != 1 or wish.format != "png":
            raise InvalidArguments(f"{full} makes one image at a time, as png; leave n and format out")
        return
    _among("background", wish.background, _BACKGROUNDS)
    if wish.background == "transparent" and wish.format == "jpeg":
        raise InvalidArguments("a jpeg has no transparent background; use format='png' or 'webp'")
    has_higher = not model.startswith(("gpt-image-1", "dall-e")) and not re.fullmatch(r"gpt-image-2(-\d{4}.*)?", model)
    _among("quality", wish.quality, _QUALITIES + (_HIGHER_QUALITIES if has_higher else ()))
    _check_pixels(full, wish.size, is_old=model.startswith("gpt-image-1"))


def _check_pixels(full: str, size: str, *, is_old: bool) -> None:
    if size == "auto":
        return
    found = _PIXELS.fullmatch(size)
    if found is None or (is_old and size not in _OLD_SIZES):
        raise InvalidArguments(f"size {size!r}: {full} makes {', '.join(_OLD_SIZES)}, or auto")
    width, height = int(found[1]), int(found[2])
    if width % 16 or height % 16:
        raise InvalidArguments(f"size {size!r}: width and height must be divisible by 16")
    if max(width, height) > 3 * min(width, height):
        raise InvalidArguments(f"size {size!r}: one edge may be three times the other at most")
    if max(width, height) > _LONGEST_EDGE or width * height > _MOST_PIXELS:
        raise InvalidArguments(f"size {size!r}: at most 3840x2160")


def google_size(size: str) -> dict[str, str]:
    """A size as Gemini's models take it: ``aspect_ratio`` and ``image_size``. Raises InvalidArguments."""
    made: dict[str, str] = {}
    for word in size.split() if size != "auto" else ():
        pixels = _PIXELS.fullmatch(word)
        if pixels is not None:
            width, height = int(pixels[1]), int(pixels[2])
            divisor = gcd(width, height)
            longest = max(width, height)
            made = {
                "aspect_ratio": f"{width // divisor}:{height // divisor}",
                "image_size": "1K" if longest <= 1_536 else "2K" if longest <= 3_072 else "4K",
            }
        elif ":" in word:
            made["aspect_ratio"] = word
        else:
            made["image_size"] = word.upper()
    _among("aspect ratio", made.get("aspect_ratio", "1:1"), _RATIOS)
    _among("size", made.get("image_size", "1K"), ("1K", "2K", "4K"))
    return made


# Speech -----------------------------------------------------------------------------------------------------------

_MOST_SPOKEN: Final = 4_096
_VOICES: Final[Mapping[str, str]] = {
    "openai": "alloy ash ballad coral echo fable onyx nova sage shimmer verse marin cedar",
    "google": """Kore Zephyr Puck Charon Fenrir Leda Orus Aoede Callirrhoe Autonoe Enceladus Iapetus Umbriel Algieba
        Despina Erinome Algenib Rasalgethi Laomedeia Achernar Alnilam Schedar Gacrux Pulcherrima Achird Zubenelgenubi
        Vindemiatrix Sadachbia Sadaltager Sulafat""",
}
_SPEECH_FORMATS: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("mp3", "opus", "aac", "flac", "wav"),
    "google": ("wav",),
}
_LATER_VOICES: Final = ("ballad", "verse", "marin", "cedar")  # which tts-1 does not have


def check_speech(full: str, wish: SpeechWish) -> SpeechWish:
    """The wish with what was left out. Raises InvalidArguments."""
    provider, _, model = full.partition("/")
    if provider == "openai" and len(wish.text) > _MOST_SPOKEN:
        raise InvalidArguments(f"the text has {len(wish.text):,} signs; {full} speaks {_MOST_SPOKEN:,} at most")
    voices = _VOICES[provider].split()
    voice = wish.voice or voices[0]
    if provider == "google":
        voice = voice.capitalize()
    if not voice.startswith("voice_"):  # one's own
        lacks = _LATER_VOICES if model.startswith("tts-1") else ()
        _among("voice", voice, [one for one in voices if one not in lacks])
    spoken_as = wish.format or _SPEECH_FORMATS[provider][0]
    _among("format", spoken_as, _SPEECH_FORMATS[provider])
    if wish.instructions and model.startswith("tts-1"):
        raise InvalidArguments(f"{full} takes no instructions")
    return SpeechWish(text=wish.text, voice=voice, format=spoken_as, instructions=wish.instructions)


def _among(name: str, given: str, known: tuple[str, ...] | list[str]) -> None:
    if given not in known:
        raise InvalidArguments(f"{name} {given!r}: use one of {', '.join(known)}")
