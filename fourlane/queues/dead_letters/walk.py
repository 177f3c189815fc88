"""Walks over dead letters.

All go by the time of death and never by position, so that jobs may die, be replayed or expire while a walk is under
way: nothing is met twice, nothing is passed over.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from fourlane import codec
from fourlane.errors import JobNotFound, UnreadableJob
from fourlane.names import Tier
from fourlane.queues import browse
from fourlane.queues.redis.replies import scored
from fourlane.queues.store import Store

__all__ = ["PAGE", "Filter", "Letter", "Position", "one", "queues_of", "times", "walk"]

PAGE: Final = 200


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


def walk(
    store: Store,
    filter: Filter,
    after: Position | None = None,
    *,
    latest_first: bool = True,
) -> Iterator[Letter]:
    """Dead letters of all queues in the order of their deaths, without those that die from now on."""
    low, high = times(filter, browse.now_ms(store))
    walks = [
        _walk_queue(store, service, tier, low, high, after, latest_first) for service, tier in queues_of(store, filter)
    ]
    for letter in heapq.merge(*walks, key=lambda letter: letter.at, reverse=latest_first):
        if _fits(filter, letter):
            yield letter


def _walk_queue(
    store: Store, service: str, tier: Tier, low: int, high: int, after: Position | None, latest_first: bool
) -> Iterator[Letter]:
    while places := _next_places(store, service, tier, low, high, after, latest_first):
        after = places[-1]
        if latest_first:
            high = min(high, after.died_ms)
        else:
            low = max(low, after.died_ms)
        yield from read_letters(store, service, places)


def _next_places(
    store: Store, service: str, tier: Tier, low: int, high: int, after: Position | None, latest_first: bool
) -> list[Position]:
    """The next places after one. Those of the same millisecond are read again, and left out."""
    key = store.service(service).dead[tier]
    if after is not None:
        low, high = (low, min(high, after.died_ms)) if latest_first else (max(low, after.died_ms), high)
    offset = 0
    while True:
        bounds = ("ZREVRANGEBYSCORE", key, high, low) if latest_first else ("ZRANGEBYSCORE", key, low, high)
        reply = scored(store.connector.command(key, *bounds, "WITHSCORES", "LIMIT", offset, PAGE))
        places = [Position(died_ms, job_id, service) for job_id, died_ms in reply]
        if after is not None:
            places = [place for place in places if (place < after if latest_first else place > after)]
        if places or len(reply) < PAGE:
            return places
        offset += PAGE


def read_letters(store: Store, service: str, places: Sequence[Position]) -> Iterator[Letter]:
    keys = store.service(service)
    ids = [place.id for place in places]
    kept = [
        store.connector.command(key, "HMGET", key, *ids)
        for key in (keys.jobs, keys.records, keys.reasons, keys.crashes)
    ]
    for place, body, record, reason, crashes in zip(places, *kept, strict=True):
        if body is not None:  # else it went since we read its place
            yield Letter(place, body, record or b"", reason or b"", crashes or b"")


def _fits(filter: Filter, letter: Letter) -> bool:
    if filter.reason is not None and letter.reason.partition(b"\n")[0].decode(errors="replace") != filter.reason:
        return False
    if filter.task is None and filter.tenant is None:
        return True
    try:
        envelope = codec.decode(letter.body)
    except UnreadableJob:
        envelope = codec.Envelope("")
    tenant = str(envelope.options.get("tenant") or "")
    return filter.task in (None, envelope.task) and filter.tenant in (None, tenant)


def times(filter: Filter, now: int) -> tuple[int, int]:
    low = 0 if filter.newer_than_ms is None else now - filter.newer_than_ms
    high = now if filter.older_than_ms is None else now - filter.older_than_ms
    return low, high


def queues_of(store: Store, filter: Filter) -> list[tuple[str, Tier]]:
    if filter.queue is not None:
        place = browse.queue_of(store, filter.queue)
        return [(place.service, place.tier)]
    return [(service, tier) for service in store.services() for tier in Tier]


def one(store: Store, job_id: str, queue: str | None) -> Letter:
    for service, stored_id in browse.locate(store, job_id, queue):
        key = store.service(service).dead[int(stored_id[0])]
        died = store.connector.command(key, "ZSCORE", key, stored_id)
        if died is not None:
            for letter in read_letters(store, service, [Position(int(float(died)), stored_id, service)]):
                return letter
    raise JobNotFound(f"there is no dead letter {job_id!r}{f' in {queue}' if queue else ''}")
