"""What every backend does: keeps bytes under a name, gives them back by reference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from fourlane.errors import InvalidOption, NotStored
from fourlane.storage.names import name_of, reference
from fourlane.threads import Threads

__all__ = ["Storage", "Stored"]

_THREADS: Final = 16
_LONGEST_URL_SECONDS: Final = 604_800
_LONGEST_MEDIA_TYPE: Final = 200


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that was kept."""

    data: bytes
    media_type: str


class Storage(ABC):
    """Keeps bytes by name. Threads share one; what is put is whole and durable, or not there.

    All raise StorageUnavailable, and InvalidName for a name or a reference that is none.
    """

    def __init__(self) -> None:
        self._threads = Threads(_THREADS, "fourlane-storage")

    def put(self, name: str, data: bytes, media_type: str) -> str:
        """Keep these bytes, in the place of what was kept under the name. Returns the reference."""
        ref = reference(name)
        if not media_type.isascii() or not media_type.isprintable() or len(media_type) > _LONGEST_MEDIA_TYPE:
            raise InvalidOption(f"{media_type[:200]!r} is no media type; use one such as image/png")
        self._write(name, data, media_type)
        return ref

    def get(self, ref: str) -> Stored:
        """Raises NotStored."""
        found = self._read(name_of(ref))
        if found is None:
            raise NotStored(f"{ref} is not stored, or no longer (FOURLANE_STORAGE_DAYS); is FOURLANE_STORAGE the same?")
        return found

    def delete(self, ref: str) -> None:
        """Forget a file; one that is not there is no error."""
        self._remove(name_of(ref))

    def url(self, ref: str, seconds: int) -> str | None:
        """Where anybody may read the file for so long; None where it can only be had from here.

        Raises InvalidOption: for longer than a week, or not at all.
        """
        if not 1 <= seconds <= _LONGEST_URL_SECONDS:
            raise InvalidOption(f"a URL holds for 1 to {_LONGEST_URL_SECONDS:,} seconds (a week), not {seconds!r}")
        return self._url(name_of(ref), seconds)

    @abstractmethod
    def prune(self, older_than: datetime) -> int:
        """Delete what was put before this moment. Returns how many files went."""

    async def aput(self, name: str, data: bytes, media_type: str) -> str:
        return await self._threads.run(self.put, name, data, media_type)

    async def aget(self, ref: str) -> Stored:
        return await self._threads.run(self.get, ref)

    def close(self) -> None:
        self._threads.close()

    @abstractmethod
    def _write(self, name: str, data: bytes, media_type: str) -> None: ...

    @abstractmethod
    def _read(self, name: str) -> Stored | None: ...

    @abstractmethod
    def _remove(self, name: str) -> None: ...

    def _url(self, name: str, seconds: int) -> str | None:
        return None
