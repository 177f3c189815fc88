"""Long texts in parts: where to split, so that each part makes sense and all of them joined are the text again."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["Part", "split"]

# From the best place to the worst: each pattern ends where a part may begin.
_PLACES: Final = (
    re.compile(r"\n[^\S\n]*\n\s*"),  # paragraphs
    re.compile(r"\n\s*"),
    re.compile(r"[.!?…][\"'”’»)\]]*\s+|[。！？｡][」』”’）]*\s*"),  # sentences
    re.compile(r"[,;:]\s+|[、，；：]\s*|\s+"),
)
_ZWJ: Final = "\u200d"
_MOST_CLUSTER: Final = 1_000


class Part(NamedTuple):
    """Some of a text, without white space at its ends, and the white space behind it."""

    text: str
    gap: str


def split(text: str, most_bytes: int) -> list[Part]:
    """A text in parts of ``most_bytes`` of UTF-8 at most: between paragraphs, else lines, sentences, words, clusters.

    ``"".join(part.text + part.gap for part in …)`` is the text. White space at its beginning is a part without text.
    """
    if most_bytes < 4:
        raise ValueError(f"most_bytes must be 4 or more, not {most_bytes}")
    body = text.lstrip()
    parts = [Part("", text[: len(text) - len(body)])] if len(body) < len(text) else []
    return parts + [_part(piece) for piece in _pieces(body, most_bytes)]


def _part(piece: str) -> Part:
    bare = piece.rstrip()
    return Part(bare, piece[len(bare) :])


def _pieces(text: str, most_bytes: int) -> Iterator[str]:
    """White space at the end of a piece is not counted: it is not sent."""
    begin = 0
    while begin < len(text):
        end = _end(text, begin, most_bytes)
        while end < len(text) and text[end].isspace():
            end += 1
        yield text[begin:end]
        begin = end


def _end(text: str, begin: int, most_bytes: int) -> int:
    """Where the piece ends that begins there."""
    fits = _fitting(text, begin, most_bytes)
    if fits == len(text):
        return fits
    # A look behind what fits: a place that begins there may end in white space, which is not counted.
    for place in _PLACES:
        ends = [
            found.end() for found in place.finditer(text, begin, min(fits + 1, len(text))) if found.end() <= fits + 1
        ]
        good = [end for end in ends if end > begin and len(text[begin:end].rstrip()) <= fits - begin]
        if good and good[-1] - begin >= (fits - begin) // 3:
            return good[-1]
    return _between_clusters(text, begin, fits)


def _fitting(text: str, begin: int, most_bytes: int) -> int:
    """Where the longest piece ends that has so many bytes at most; one character at least."""
    window = text[begin : begin + most_bytes]
    data = window.encode("utf-8", "surrogatepass")
    if len(data) <= most_bytes:
        return begin + len(window)
    cut = most_bytes
    while data[cut] & 0xC0 == 0x80:  # amid a character
        cut -= 1
    return begin + max(1, len(data[:cut].decode("utf-8", "surrogatepass")))


def _between_clusters(text: str, begin: int, end: int) -> int:
    """The last place up to ``end`` that tears no cluster; ``end`` itself where a cluster is longer than any that is."""
    for place in range(end, max(begin, end - _MOST_CLUSTER), -1):
        if not _joined(text, place):
            return place
    return end


def _joined(text: str, place: int) -> bool:
    """Whether what lies on both sides of a place is seen as one: rules of Unicode's text segmentation (UAX 29)."""
    before, after = text[place - 1], text[place]
    if before == "\r" and after == "\n":
        return True
    if before.isspace() or after.isspace():
        return False
    if _is_lead(before) and not _is_lead(after) and "\udc00" <= after <= "\udfff":
        return True
    if unicodedata.category(after) in ("Mn", "Me", "Mc") or after == _ZWJ or "\U0001f3fb" <= after <= "\U0001f3ff":
        return True
    if "\U000e0020" <= after <= "\U000e007f":  # tags, of flags of regions
        return True
    if before == _ZWJ or unicodedata.combining(before) == 9:  # what a virama binds
        return True
    if _is_flag(before) and _is_flag(after):
        return _flags_before(text, place) % 2 == 1
    return _is_jamo(after) and (_is_jamo(before) or "\uac00" <= before <= "\ud7a3")


def _is_lead(sign: str) -> bool:
    return "\ud800" <= sign <= "\udbff"


def _is_flag(sign: str) -> bool:
    return "\U0001f1e6" <= sign <= "\U0001f1ff"


def _is_jamo(sign: str) -> bool:
    return "\u1100" <= sign <= "\u11ff" or "\ua960" <= sign <= "\ua97f" or "\ud7b0" <= sign <= "\ud7ff"


def _flags_before(text: str, place: int) -> int:
    count = 0
    while count < place and _is_flag(text[place - 1 - count]):
        count += 1
    return count
