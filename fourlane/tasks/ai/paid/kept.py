"""What was paid for is kept before anything else can fail.

1. A small answer is recorded as the step itself.
2. A large one, and whatever has files, goes to storage, and the step says where.
3. Storage that fails is tried again for a while. Then a text is recorded all the same, if the job's steps have room;
   all else goes to this host's own disk, not to Redis, whose memory is that of all jobs: an ERROR line says so, the
   step says on which host, and the next run there brings it to storage.
4. While Redis is away it is tried again too (fourlane/tasks/recorded.py), and a copy lies in storage meanwhile.

All names are known before anything is put, so a run after another looks there before it asks anybody.
"""

from __future__ import annotations

import asyncio
import logging
import math
import uuid
from collections.abc import Mapping
from typing import Any, Final, TypedDict, cast

import msgspec

from fourlane.errors import FourlaneError, Reject, SettingsError, StepError, StorageUnavailable
from fourlane.providers.ai import Media
from fourlane.storage.media import suffix_of
from fourlane.tasks.ai.money.booking import Booked
from fourlane.tasks.ai.paid.reply import Reply
from fourlane.tasks.ai.paid.shelf import HERE, Shelf, aside
from fourlane.tasks.context import running

__all__ = ["MOST_INLINE", "Keeper", "Kept", "cleaned"]

log = logging.getLogger("fourlane.ai")

MOST_INLINE: Final = 65_536
"""What one answer may take of a job's steps."""
_ROOM_OF_A_REFERENCE: Final = 4_096
_REDIS_IS_AWAY_SECONDS: Final = 2.0
_ASKED: Final = b"null"  # what lies in the place of an answer before there is one


class Kept(TypedDict):
    """What is kept of an answer that was paid for."""

    reply: Reply
    booked: Booked


class _Elsewhere(TypedDict):
    """What a step records of an answer that lies elsewhere. host: on whose own disk; empty: in storage."""

    at: str
    host: str
    booked: Booked


class Keeper:
    """Keeps the answers of one job's AI calls; outside of a job only their files."""

    def __init__(self, tenant: str | None, inline_bytes: int | None = None) -> None:
        self._inline_bytes = MOST_INLINE if inline_bytes is None else inline_bytes
        run = running.get()
        self._steps = None if run is None else run.steps
        self._shelf = Shelf(tenant or "", uuid.uuid4().hex if run is None else run.context.id)

    def hurry(self) -> None:
        """Nobody waits any longer."""
        self._shelf.hurry = True

    # Before anybody is asked --------------------------------------------------------------------------------

    async def before(self, step: str, *, makes_files: bool) -> Kept | None:
        """What an earlier run kept and could not record. Else there is a place for what will be paid for.

        Raises:
          StorageUnavailable: there will be files, and storage is down, full or wrongly set.
          StepError: the job's steps leave no room.
        """
        if self._steps is not None:
            if self._steps.room < _ROOM_OF_A_REFERENCE:
                raise StepError(f"the steps of this job leave no room for that of {step!r}; nobody was asked")
            if makes_files or self._steps.ran_before:
                found = await self._look(step, must=makes_files)
                if found is not None:
                    return found
        if makes_files:
            await self._shelf.put({self._at(step): Media(media_type="application/json", data=_ASKED)})
        return None

    async def _look(self, step: str, *, must: bool) -> Kept | None:
        try:
            return await self._found(step)
        except (StorageUnavailable, SettingsError, ImportError) as fault:
            if must:
                raise
            # Whoever asks for texts alone need not have a storage that works.
            log.warning("%s; whether an earlier run kept the answer of %r is not known", fault, step)
            return None

    async def _found(self, step: str) -> Kept | None:
        """Out of storage, or from this host's disk by way of it."""
        at = self._at(step)
        kept = _read(await self._shelf.get(at))
        # Files and record are put at once: one that was killed meanwhile may have left some of them.
        if kept is None or not all([await self._shelf.get(ref) for ref in kept["reply"]["files"]]):
            kept = _read(await self._shelf.get(at, aside))
            if kept is None or not await self._shelf.bring_over([*kept["reply"]["files"], at]):
                return None
        await self._record(step, self._elsewhere(step, kept))
        return kept

    # Recorded before ----------------------------------------------------------------------------------------

    async def recall(self, step: str, recorded: Kept | _Elsewhere) -> Kept:
        """What an earlier run recorded.

        Raises:
          StorageUnavailable: it cannot be had at present.
          Reject: it lies there no longer.
        """
        if "reply" in recorded:
            return cast("Kept", recorded)
        if recorded["host"] not in ("", HERE):
            raise StorageUnavailable(
                f"the answer of {step!r} is paid for, and lies on the disk of the host {recorded['host']!r}, because "
                "storage was away; it is brought to storage when a worker there runs this job"
            )
        if recorded["host"]:
            found = await self._found(step)
            if found is not None:
                return found
        kept = _read(await self._shelf.get(recorded["at"]))
        if kept is None:
            raise Reject(f"the answer of {step!r} was paid for, but is not at {recorded['at']} any more")
        return kept

    # Paid for -----------------------------------------------------------------------------------------------

    def files(self, step: str, media: tuple[Media, ...]) -> dict[str, Media]:
        """By the references under which they are kept."""
        stem = step.removeprefix("ai:")
        return {self._shelf.reference(f"{stem}.{number}{_suffix_of(one)}"): one for number, one in enumerate(media, 1)}

    async def keep(self, step: str, kept: Kept, files: Mapping[str, Media]) -> Kept:
        """Keep an answer and its files, in one way or another.

        Raises:
          StorageUnavailable: its files lie on this host's disk, and a later run brings them over.
          Reject: it could not be kept at all, and is not to be paid for again and again.
          LeaseLost: another worker has the job.
        """
        kept = cleaned(kept)
        data = msgspec.json.encode(kept)
        record = {self._at(step): Media(media_type="application/json", data=data)}
        room = math.inf if self._steps is None else self._steps.room - _ROOM_OF_A_REFERENCE
        if not files and len(data) <= min(self._inline_bytes, room):
            await self._record(step, kept, record)
            return kept
        if self._steps is None and not files:
            return kept
        try:
            await self._shelf.insist({**files, **record})
        except Exception as fault:
            if not files and len(data) <= room:
                await self._record(step, kept)
                return kept
            await self._keep_aside(step, kept, {**files, **record}, fault)
            if files:
                raise StorageUnavailable(
                    f"the files of {step!r} are paid for, and wait on the disk of {HERE!r}: {fault}"
                ) from fault
        else:
            await self._record(step, self._elsewhere(step, kept))
        return kept

    async def _keep_aside(self, step: str, kept: Kept, files: Mapping[str, Media], fault: Exception) -> None:
        try:
            await self._shelf.put(files, aside)
        except Exception as other:
            log.exception("the answer of %r is paid for and could not be kept: %s; %s", step, fault, other)
            raise Reject(f"the answer of {step!r} is paid for and could not be kept: {fault}; {other}") from fault
        log.error(
            "the answer of %r is paid for, and lies on the disk of this host until storage is back: %s", step, fault
        )
        await self._record(step, self._elsewhere(step, kept, HERE))

    def _at(self, step: str) -> str:
        """Where the answer itself lies."""
        return self._shelf.reference(f"{step.removeprefix('ai:')}.json")

    def _elsewhere(self, step: str, kept: Kept, host: str = "") -> _Elsewhere:
        return {"at": self._at(step), "host": host, "booked": kept["booked"]}

    async def _record(self, step: str, value: Kept | _Elsewhere, spare: Mapping[str, Media] | None = None) -> None:
        """Record a step; ``spare`` goes to storage meanwhile, where Redis does not take it at once."""
        if self._steps is None:
            return
        recording = asyncio.ensure_future(self._steps.arecord(step, value))
        if spare is not None and not (await asyncio.wait([recording], timeout=_REDIS_IS_AWAY_SECONDS))[0]:
            try:
                await self._shelf.put(spare)
            except (FourlaneError, ImportError, OSError) as fault:
                log.warning("no copy of the answer of %r is kept while Redis is away: %s", step, fault)
        await recording


def _read(record: Media | None) -> Kept | None:
    """An answer that lies somewhere."""
    kept: Kept | None = None if record is None else msgspec.json.decode(record.data)
    return kept


def _suffix_of(media: Media) -> str:
    _, dot, suffix = media.name.rpartition(".")
    return dot + suffix if dot else suffix_of(media.media_type)


def cleaned(value: Any) -> Any:
    """The same, as JSON can carry it: lone surrogates become U+FFFD, numbers that are none null."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {cleaned(key): cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(item) for item in value]
    return value
