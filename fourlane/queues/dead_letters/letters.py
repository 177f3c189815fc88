"""Dead letters as the keys hold them: which are meant, where each stands, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from fourlane import codec
from fourlane.errors import JobNotFound, UnreadableJob
from fourlane.queues import browse
from fourlane.queues.store import Store

__all__ = ["Filter", "Letter", "Position", "one", "read_letters"]


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which dead letters. Every field that is given must fit.

    Parameters:
      queue: a queue's name.
      task: the task's name.
      tenant: on whose behalf it ran.
      reason: the word: error, rejected, expired, unknown-task or poison.
      older_than_ms: died longer ago than this.
      newer_than_ms: died less long ago than this.
    """

    queue: str | None = None
    task: str | None = None
    tenant: str | None = None
    reason: str | None = None
    older_than_ms: int | None = None
    newer_than_ms: int | None = None

    def fits(self, letter: Letter) -> bool:
        """All but queue and time."""
        if self.reason is not None and letter.word != self.reason:
            return False
        if self.task is None and self.tenant is None:
            return True
        try:
            envelope = codec.decode(letter.body)
        except UnreadableJob:
            envelope = codec.Envelope("")
        tenant = str(envelope.options.get("tenant") or "")
        return self.task in (None, envelope.task) and self.tenant in (None, tenant)

    def times(self, now_ms: int) -> tuple[int, int]:
        """The first and the last time of death."""
        first = 0 if self.newer_than_ms is None else now_ms - self.newer_than_ms
        last = now_ms if self.older_than_ms is None else now_ms - self.older_than_ms
        return first, last


class Position(NamedTuple):
    """A place in the order of all walks: time of death, id, service."""

    died_ms: int
    id: str
    service: str


class Letter(NamedTuple):
    at: Position
    body: bytes
    record: bytes
    reason: bytes
    crashes: bytes

    @property
    def word(self) -> str:
        """Why it is one: error, rejected, expired, unknown-task or poison."""
        return self.reason.partition(b"\n")[0].decode(errors="replace")

    @property
    def detail(self) -> str:
        return self.reason.partition(b"\n")[2].decode(errors="replace")


def one(store: Store, job_id: str, queue: str | None) -> Letter:
    """Raises JobNotFound."""
    for service, stored_id in browse.locate(store, job_id, queue):
        key = store.service(service).dead[int(stored_id[0])]
        died = store.connector.command(key, "ZSCORE", key, stored_id)
        if died is not None:
            for letter in read_letters(store, service, [Position(int(float(died)), stored_id, service)]):
                return letter
    raise JobNotFound(f"there is no dead letter {job_id!r}{f' in {queue}' if queue else ''}")


def read_letters(store: Store, service: str, positions: Sequence[Position]) -> Iterator[Letter]:
    """What is there of them still."""
    keys = store.service(service)
    ids = [position.id for position in positions]
    kept = [
        store.connector.command(key, "HMGET", key, *ids)
        for key in (keys.jobs, keys.records, keys.reasons, keys.crashes)
    ]
    for position, body, record, reason, crashes in zip(positions, *kept, strict=True):
        if body is not None:  # else it went since we read its position
            yield Letter(position, body, record or b"", reason or b"", crashes or b"")
