"""What images, speech and sound come to in tokens, for models that are paid by tokens where nobody tells how many."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from fourlane.providers.ai import Usage

__all__ = ["in_tokens"]

# 2026-11, of an image by its quality: a square one, and a longer one. ``auto`` may turn out to be the best.
_OPENAI_IMAGES: Final = {"low": (272, 408), "medium": (1_056, 1_584), "high": (4_160, 6_240)}
_GOOGLE_IMAGE: Final = 1_290
_HEARD_A_SECOND: Final = 17
_WRITTEN_A_SECOND: Final = 4  # of a transcript
_SPOKEN_A_CHARACTER: Final = 1.7
_CHARACTERS_A_TOKEN: Final = 4


def in_tokens(provider: str, usage: Usage) -> Usage:
    """The same, with an estimate of the tokens that it comes to."""
    image = _of_image(provider, usage.image) * usage.images
    heard = math.ceil(usage.audio_seconds * _HEARD_A_SECOND)
    spoken = math.ceil(usage.characters * _SPOKEN_A_CHARACTER)
    read = math.ceil(usage.characters / _CHARACTERS_A_TOKEN)
    written = math.ceil(usage.audio_seconds * _WRITTEN_A_SECOND)
    return replace(
        usage,
        input_tokens=usage.input_tokens + heard + read,
        input_audio_tokens=usage.input_audio_tokens + heard,
        output_tokens=usage.output_tokens + image + spoken + written,
        output_image_tokens=usage.output_image_tokens + image,
        output_audio_tokens=usage.output_audio_tokens + spoken,
    )


def _of_image(provider: str, image: str) -> int:
    """Of one, by ``SIZE QUALITY``."""
    if provider == "google":
        return _GOOGLE_IMAGE
    size, _, quality = image.partition(" ")
    width, _, height = size.partition("x")
    square, longer = _OPENAI_IMAGES.get(quality, _OPENAI_IMAGES["high"])
    return square if width and width == height else longer
