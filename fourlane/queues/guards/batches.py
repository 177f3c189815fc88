"""Requests that wait to be asked together, for less, and what became of them; one set of keys for each provider.

A request has a ticket from the moment at which it is put here until its job has taken the answer. Of one collection are
those for one model. The script calls bear to be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, cast

from fourlane.queues.redis.replies import fields, scored
from fourlane.queues.store import Store

__all__ = ["KEPT_MS", "Added", "Batches", "Ticket", "Word"]

KEPT_MS: Final = 32 * 86_400_000
"""Longer than a provider keeps answers."""
_MOST_WAITING: Final = 100_000
_MOST_BYTES: Final = 256 << 20
_CHUNK: Final = 200

Added = Literal["added", "known", "full"]
Word = Literal["", "answer", "refused", "again"]
"""What became of a request: nothing yet; an answer; it was refused for good; it was not asked, and may be again."""


class Ticket(NamedTuple):
    """What is known of a request. ``about`` is what its job said of it, ``answer`` what belongs to the word."""

    about: bytes
    word: Word
    answer: bytes


class Batches:
    """The requests of one environment for one provider."""

    def __init__(self, store: Store, provider: str) -> None:
        self._store = store
        self._keys = store.keys
        self._provider = provider

    # For the jobs that ask -----------------------------------------------------------------------------------

    def add(self, model: str, ticket: str, about: bytes, body: bytes) -> Added:
        """Have a request wait; ``known``: it was put here before, ``full``: too many wait."""
        keys, provider = self._keys, self._provider
        names = (
            keys.ticket(provider, ticket), keys.waiting(provider, model), keys.bodies(provider, model),
            keys.collections(provider),
        )  # fmt: skip
        args = (ticket, about, body, model, KEPT_MS, _MOST_WAITING, _MOST_BYTES)
        return cast("Added", self._store.connector.run("batch_add", names, args).decode())

    def look(self, ticket: str) -> Ticket | None:
        """None: there is no such request, or no longer."""
        key = self._keys.ticket(self._provider, ticket)
        about, word, answer = self._command(key, "HMGET", key, "about", "word", "answer")
        if about is None:
            return None
        return Ticket(about, cast("Word", (word or b"").decode()), answer or b"")

    def forget(self, ticket: str) -> None:
        """Its job has taken the answer."""
        key = self._keys.ticket(self._provider, ticket)
        self._command(key, "DEL", key)

    def withdraw(self, model: str, tickets: Sequence[str], batch: str = "") -> int:
        """Take requests away that are not submitted: that wait, or are of a batch being made. Returns how many were."""
        keys, provider = self._keys, self._provider
        place = keys.members(provider, batch) if batch else keys.waiting(provider, model)
        gone = 0
        for some in _some(tickets):
            names = (keys.bodies(provider, model), place, *(keys.ticket(provider, ticket) for ticket in some))
            gone += int(self._store.connector.run("batch_withdraw", names, some))
        return gone

    # For the one that collects -------------------------------------------------------------------------------

    def collections(self) -> list[str]:
        """The models for which requests wait, or did within a month."""
        key = self._keys.collections(self._provider)
        return [model.decode() for model in self._command(key, "ZRANGE", key, 0, -1)]

    def waiting(self, model: str) -> tuple[int, int]:
        """How many requests wait, and since when the oldest does (ms since 1970; 0: none)."""
        key = self._keys.waiting(self._provider, model)
        oldest = scored(self._command(key, "ZRANGE", key, 0, 0, "WITHSCORES"))
        return int(self._command(key, "ZCARD", key)), oldest[0][1] if oldest else 0

    def gather(self, model: str, batch: str, *, most: int, most_bytes: int) -> tuple[list[str], int, bool]:
        """Move the oldest that wait into a batch: their ids, how many bytes they are, whether it is full."""
        keys, provider = self._keys, self._provider
        names = (keys.waiting(provider, model), keys.bodies(provider, model), keys.members(provider, batch))
        args = (min(most, _CHUNK), most_bytes, KEPT_MS)
        size, full, *moved = self._store.connector.run("batch_gather", names, args)
        return [ticket.decode() for ticket in moved], int(size), bool(full) or len(moved) < min(most, _CHUNK)

    def members(self, batch: str) -> Iterator[Sequence[str]]:
        """The tickets of a batch that are not done with, some at a time."""
        key = self._keys.members(self._provider, batch)
        found = sorted(member.decode() for member in self._command(key, "SMEMBERS", key))
        yield from _some(found)

    def size(self, batch: str) -> int:
        """How many tickets of a batch are not done with."""
        key = self._keys.members(self._provider, batch)
        return int(self._command(key, "SCARD", key))

    def bodies(self, model: str, tickets: Sequence[str]) -> list[bytes | None]:
        key = self._keys.bodies(self._provider, model)
        return list(self._command(key, "HMGET", key, *tickets))

    def sent(self, model: str, tickets: Sequence[str]) -> None:
        """They are submitted."""
        key = self._keys.bodies(self._provider, model)
        for some in _some(tickets):
            self._store.connector.run("batch_sent", (key,), some)

    def answer(self, batch: str, answers: Sequence[tuple[str, Word, bytes]]) -> list[bytes | None]:
        """Write what became of requests. Of each, whose it is; empty: its job took it before; None: not of this batch.

        What an earlier call wrote of one stays.
        """
        keys, provider = self._keys, self._provider
        names = (keys.members(provider, batch), *(keys.ticket(provider, ticket) for ticket, _, _ in answers))
        args: list[Any] = [KEPT_MS]
        for answer in answers:
            args += answer
        return [None if about == b"-" else about for about in self._store.connector.run("batch_answer", names, args)]

    def done_with(self, batch: str, tickets: Sequence[str]) -> None:
        """Their jobs know."""
        if tickets:
            key = self._keys.members(self._provider, batch)
            self._command(key, "SREM", key, *tickets)

    # Batches that are not over -------------------------------------------------------------------------------

    def open(self) -> Mapping[str, bytes]:
        """What is kept of each, by its name."""
        key = self._keys.open_batches(self._provider)
        return fields(self._command(key, "HGETALL", key))

    def keep(self, batch: str, record: bytes) -> None:
        key = self._keys.open_batches(self._provider)
        self._command(key, "HSET", key, batch, record)

    def over(self, batch: str) -> None:
        key, members = self._keys.open_batches(self._provider), self._keys.members(self._provider, batch)
        self._command(members, "DEL", members)
        self._command(key, "HDEL", key, batch)

    def _command(self, key: bytes, *words: Any) -> Any:
        return self._store.connector.command(key, *words)


def _some(tickets: Sequence[str]) -> Iterator[Sequence[str]]:
    return (tickets[first : first + _CHUNK] for first in range(0, len(tickets), _CHUNK))
