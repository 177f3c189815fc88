"""Files that go to models with a question: checked when a job is enqueued, read when it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

from fourlane.errors import InvalidArguments, Reject
from fourlane.providers.ai import Media
from fourlane.root import root
from fourlane.storage.setup import inputs, storage
from fourlane.tasks.ai.paid.sealed import SEALED, opened

__all__ = ["MOST_SOURCES", "check_sources", "read_file", "read_media"]

MOST_SOURCES: Final = 500
"""With one question; providers take fewer."""


def check_sources(sources: Sequence[str], *, tenant: str | None, most: int = MOST_SOURCES) -> None:
    """Refuse what can be known before a job runs. Nothing is fetched. Raises InvalidArguments."""
    if isinstance(sources, str) or not isinstance(sources, Sequence):
        raise InvalidArguments(f"sources are a list of texts such as URLs, not {type(sources).__name__}")
    if len(sources) > most:
        raise InvalidArguments(f"{len(sources):,} files are too many; at most {most:,} go with one call")
    for source in sources:
        root().part(inputs).check(source, tenant=tenant or "")


async def read_media(
    sources: Sequence[str], *, tenant: str | None, kinds: Collection[str], most_bytes: int
) -> tuple[Media, ...]:
    """What the sources have, in their order.

    Parameters:
      tenant: on whose behalf: it reads its own references alone. None or empty: any.
      kinds: media types, or kinds of them such as ``image/*``.
      most_bytes: of all together.

    Raises:
      Reject: one can never be read: not allowed, not there, too large, of another type.
      InputUnavailable, StorageUnavailable: they may be read another time.
      EncryptionError: it is of an encrypted job, and this is none.
    """
    found = await asyncio.gather(*(_read(source, tenant or "", kinds, most_bytes) for source in sources))
    size = sum(len(media.data) for media in found)
    if size > most_bytes:
        raise Reject(f"the files have {size:,} bytes together, over the {most_bytes:,} that may go with one call")
    return tuple(found)


async def _read(source: str, tenant: str, kinds: Collection[str], most_bytes: int) -> Media:
    blob = await root().part(inputs).read(source, allowed=(*kinds, SEALED), most_bytes=most_bytes, tenant=tenant)
    if blob.media_type != SEALED:
        return Media(media_type=blob.media_type, data=blob.data, name=blob.name)
    return opened(source, blob.data, kinds=kinds)


async def read_file(ref: str) -> Media:
    """What a reference of a reply leads to. Raises NotStored, StorageUnavailable, EncryptionError."""
    stored = await root().part(storage).aget(ref)
    if stored.media_type == SEALED:
        return opened(ref, stored.data)
    return Media(media_type=stored.media_type, data=stored.data, name=ref.rpartition("/")[2])
