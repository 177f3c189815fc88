"""What a call took, as its provider counts it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal

__all__ = ["Usage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a call took. Numbers are those of the provider; 0 where it said nothing or there is none.

    Parameters:
      input_tokens: all that was read, cached ones included.
      cache_read_tokens, cache_write_tokens, cache_write_1h_tokens: of those, what came from and went into the
        provider's cache; the last are kept for an hour, and counted in the second too.
      input_audio_tokens, input_image_tokens: of the input.
      output_tokens: all that was written, reasoning and thoughts included.
      reasoning_tokens, output_audio_tokens, output_image_tokens: of the output.
      audio_seconds: of audio that was heard.
      characters: of text that was spoken, where they are what is paid.
      images: that were made; ``image`` is their kind, ``SIZE QUALITY``, where prices differ by it.
      searches: of the web, that the model made.
      requests: 1, for those who bill each.
      billed_usd: what the provider says that it bills for this call; None: it does not say.
      half: made through a batch API, at half the price.
      told: whether the provider said anything of it; False: it is an estimate of ours.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    audio_seconds: float = 0.0
    characters: int = 0
    images: int = 0
    image: str = ""
    searches: int = 0
    requests: int = 1
    billed_usd: Decimal | None = None
    half: bool = False
    told: bool = True

    @property
    def tokens(self) -> int:
        """What counts against a limit of tokens a minute."""
        return self.input_tokens + self.output_tokens

    @property
    def says_nothing(self) -> bool:
        """Whether it is all zeros, as gateways send it that do not count."""
        return replace(self, half=False, told=True) == Usage()

    def newer(self, later: Usage) -> Usage:
        """This, with all that a later word of the same answer says in its place."""
        nothing = Usage()
        names = [field.name for field in fields(Usage)]
        said = {name: getattr(later, name) for name in names if getattr(later, name) != getattr(nothing, name)}
        return Usage(**({name: getattr(self, name) for name in names} | {"told": later.told} | said))


NOTHING = Usage(told=False)
"""No word of it."""
