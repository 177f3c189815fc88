"""What was read, and whether it is what the reader wants. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import unquote

from fourlane.errors import Reject
from fourlane.storage import media

__all__ = ["Blob", "Found", "blob_of"]

_NAME_SIGNS: Final = re.compile(r"[^\w.@+=-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Blob:
    """What was read.

    Parameters:
      name: a file's, which has the suffix of the media type.
    """

    data: bytes
    media_type: str
    name: str


class Found(NamedTuple):
    """What a source gave: at most one byte more than allowed; what was said of it, and how it is called."""

    data: bytes
    said: str = ""
    name: str = ""


def blob_of(found: Found, where: str, allowed: Collection[str], most_bytes: int) -> Blob:
    """Raises Reject."""
    if len(found.data) > most_bytes:
        raise Reject(f"{where} has more than the {most_bytes:,} bytes that are allowed")
    if not found.data:
        raise Reject(f"{where} is empty")
    said = found.said if media.bare(found.said) not in ("", media.UNKNOWN) else media.of_name(found.name)
    media_type = media.of_bytes(found.data, said)
    if not media.is_allowed(media_type, allowed):
        told = f", though said to be {media.bare(said)}" if said and media.bare(said) != media_type else ""
        raise Reject(f"{where} is {media_type}{told}; allowed: {', '.join(sorted(allowed))}")
    return Blob(found.data, media_type, _file_name(found.name, media_type))


def _file_name(name: str, media_type: str) -> str:
    """A plain name, with the suffix of the media type."""
    plain = _NAME_SIGNS.sub("_", unquote(name)).strip("._")[:100] or "file"
    if media.of_name(plain) == media_type:
        return plain
    stem = plain.rpartition(".")[0] if media.of_name(plain) else plain
    return (stem or "file") + media.suffix_of(media_type)
