"""Media types: their suffixes, and what the first bytes of a file say. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

__all__ = ["AUDIO", "DOCUMENTS", "IMAGES", "TEXTS", "UNKNOWN", "bare", "is_allowed", "of_bytes", "of_name", "suffix_of"]

IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
AUDIO: Final = frozenset({"audio/mpeg", "audio/wav", "audio/mp4", "audio/ogg", "audio/flac", "audio/webm"})
DOCUMENTS: Final = frozenset({"application/pdf"})
TEXTS: Final = frozenset({"text/plain", "text/markdown", "text/csv", "text/html", "application/json"})
UNKNOWN: Final = "application/octet-stream"

# The first suffix of a media type is the one that we write.
_SUFFIXES: Final = {
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/gif": (".gif",),
    "image/webp": (".webp",),
    "audio/mpeg": (".mp3", ".mpga"),
    "audio/wav": (".wav",),
    "audio/mp4": (".m4a",),
    "audio/ogg": (".ogg", ".oga", ".opus"),
    "audio/flac": (".flac",),
    "audio/webm": (".webm", ".weba"),
    "audio/aac": (".aac",),
    "video/mp4": (".mp4",),
    "video/webm": (".webm",),
    "application/pdf": (".pdf",),
    "application/json": (".json",),
    "text/plain": (".txt",),
    "text/markdown": (".md",),
    "text/csv": (".csv",),
    "text/html": (".html", ".htm"),
}
_OF_SUFFIX: Final = {
    suffix: media_type
    for media_type, suffixes in reversed(_SUFFIXES.items())  # the first of those that share one
    for suffix in suffixes
}
_ALIASES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "audio/mp3": "audio/mpeg",
    "audio/x-mpeg": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/m4a": "audio/mp4",
    "audio/x-m4a": "audio/mp4",
    "audio/opus": "audio/ogg",
    "application/ogg": "audio/ogg",
    "audio/x-flac": "audio/flac",
    "application/x-pdf": "application/pdf",
    "text/x-markdown": "text/markdown",
    "application/csv": "text/csv",
    "text/json": "application/json",
    "binary/octet-stream": UNKNOWN,  # S3's, of what nobody said anything of
}
# Where a signature begins, the signature, and the media types whose files have it: the first where nobody says which.
_SIGNATURES: Final[tuple[tuple[int, bytes, tuple[str, ...]], ...]] = (
    (0, b"\x89PNG\r\n\x1a\n", ("image/png",)),
    (0, b"\xff\xd8\xff", ("image/jpeg",)),
    (0, b"GIF87a", ("image/gif",)),
    (0, b"GIF89a", ("image/gif",)),
    (8, b"WEBP", ("image/webp",)),
    (8, b"WAVE", ("audio/wav",)),
    (0, b"%PDF-", ("application/pdf",)),
    (0, b"ID3", ("audio/mpeg",)),
    (0, b"\xff\xfb", ("audio/mpeg",)),
    (0, b"\xff\xf3", ("audio/mpeg",)),
    (0, b"\xff\xf2", ("audio/mpeg",)),
    (0, b"\xff\xfa", ("audio/mpeg",)),
    (0, b"\xff\xe3", ("audio/mpeg",)),
    (0, b"\xff\xf1", ("audio/aac",)),
    (0, b"\xff\xf9", ("audio/aac",)),
    (0, b"fLaC", ("audio/flac",)),
    (0, b"OggS", ("audio/ogg",)),
    (0, b"\x1aE\xdf\xa3", ("audio/webm", "video/webm")),
    (4, b"ftypM4A", ("audio/mp4",)),
    (4, b"ftyp", ("video/mp4", "audio/mp4")),
)
_SIGNED: Final = frozenset(media_type for _, _, media_types in _SIGNATURES for media_type in media_types)


def bare(media_type: str) -> str:
    """A media type by its usual name, without parameters: ``Audio/MP3; rate=1`` is ``audio/mpeg``."""
    name = media_type.partition(";")[0].strip().lower()
    return _ALIASES.get(name, name)


def suffix_of(media_type: str) -> str:
    """``.png``; ``.bin`` of what is not known here."""
    return _SUFFIXES.get(bare(media_type), (".bin",))[0]


def of_name(name: str) -> str:
    """What a file's suffix says; empty for nothing."""
    _, dot, suffix = name.rpartition(".")
    return _OF_SUFFIX.get(f".{suffix.lower()}", "") if dot else ""


def of_bytes(data: bytes, said: str = "") -> str:
    """What a file is. What its bytes show counts; what was said of it, where they show nothing or leave a choice.

    Servers and programs often say wrong things, and providers refuse a file that is not what it is said to be.

    Parameters:
      said: by a header or a suffix; empty for nothing.
    """
    said = bare(said)
    shown = _shown(data)
    if shown:
        return said if said in shown else shown[0]
    if said in ("", UNKNOWN, *TEXTS):
        return UNKNOWN if not _is_text(data) else "text/plain" if said in ("", UNKNOWN) else said
    return UNKNOWN if said in _SIGNED else said


def _shown(data: bytes) -> tuple[str, ...]:
    """The media types whose signature a file has."""
    for offset, signature, media_types in _SIGNATURES:
        if data.startswith(signature, offset) and (offset != 8 or data.startswith(b"RIFF")):
            return media_types
    return ()


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def is_allowed(media_type: str, allowed: Collection[str]) -> bool:
    """``allowed`` has media types, and kinds of them such as ``image/*``."""
    kind = media_type.partition("/")[0]
    return media_type in allowed or f"{kind}/*" in allowed
