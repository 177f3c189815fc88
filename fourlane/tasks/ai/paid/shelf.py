"""Where the files of one job's AI calls lie: in storage, or on this host's own disk while storage is away."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fourlane.errors import NotStored, StorageUnavailable
from fourlane.providers.ai import Media
from fourlane.root import Root, root
from fourlane.storage.disk import DiskStorage
from fourlane.storage.names import file_name, name_of, reference
from fourlane.storage.setup import storage
from fourlane.storage.store import Storage
from fourlane.tasks.ai.paid.sealed import SEALED, closed, is_sealing, opened
from fourlane.tasks.context import current_job

__all__ = ["HERE", "Shelf", "aside"]

log = logging.getLogger("fourlane.ai")

HERE: Final = socket.gethostname()
_AREA: Final = "ai"
_PATIENCE_SECONDS: Final = 20.0
_PAUSE_SECONDS: Final = 1.0


def aside(of: Root) -> Storage:
    """A part: the folder of this host in which lies what storage did not take."""
    folder = DiskStorage(of.settings.data_dir / "kept")
    of.on_close(folder.close)
    return folder


class Shelf:
    """Puts and gets the files of one group, sealed where an encrypted job runs.

    Parameters:
      group: a job's id.
    """

    def __init__(self, tenant: str, group: str) -> None:
        self._tenant = tenant
        self._group = group
        self.hurry = False
        """Set it where nobody waits any longer: storage that fails is not tried again."""

    def reference(self, file: str) -> str:
        """Under which a file of the group lies, once it is put."""
        return reference(file_name(_AREA, self._tenant, self._group, file))

    async def get(self, ref: str, place: Callable[[Root], Storage] = storage) -> Media | None:
        """Raises StorageUnavailable, EncryptionError."""
        try:
            stored = await root().part(place).aget(ref)
        except NotStored:
            return None
        if stored.media_type != SEALED:
            return Media(media_type=stored.media_type, data=stored.data)
        job = current_job()
        return opened(ref, stored.data, task=None if job is None else job.task)

    async def put(self, files: Mapping[str, Media], place: Callable[[Root], Storage] = storage) -> None:
        """All of them, by reference. Raises StorageUnavailable: some may be there nevertheless."""
        await asyncio.gather(*(self._put(root().part(place), name_of(ref), files[ref]) for ref in files))

    async def _put(self, place: Storage, name: str, media: Media) -> None:
        if is_sealing():
            await place.aput(name, closed(name, media), SEALED)
        else:
            await place.aput(name, media.data, media.media_type)

    async def insist(self, files: Mapping[str, Media]) -> None:
        """As put, tried again for a while. Raises StorageUnavailable."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.1, until - time.monotonic())):
                    return await self.put(files)
            except TimeoutError:
                raise StorageUnavailable(f"storage did not answer within {_PATIENCE_SECONDS:.0f} seconds") from None
            except StorageUnavailable as fault:
                if self.hurry or time.monotonic() + _PAUSE_SECONDS > until:
                    raise
                log.warning("%s; what was paid for is kept as soon as it is back", fault)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def bring_over(self, refs: Sequence[str]) -> bool:
        """From this host's disk into storage; whether they were there. Raises StorageUnavailable."""
        found = {ref: media for ref in refs if (media := await self.get(ref, aside)) is not None}
        if len(found) < len(refs):
            return False
        await self.put(found)
        for ref in refs:
            await asyncio.to_thread(root().part(aside).delete, ref)
        return True
