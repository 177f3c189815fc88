"""What became of requests is written where their jobs find it, and the jobs run.

A result stays with its batch until its job knows of it. A job that runs just now may be about to wait: it is told again
in the next round.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from fourlane.providers.ai.batches import Batch, Result
from fourlane.queues.control import hasten
from fourlane.queues.guards import Batches
from fourlane.queues.guards.batches import Ticket, Word
from fourlane.queues.store import Store
from fourlane.sealing import seal_file
from fourlane.tasks.ai.batches.orphans import book_orphan
from fourlane.tasks.ai.batches.provider import Caller
from fourlane.tasks.ai.batches.records import Whose
from fourlane.tasks.ai.batches.rules import word_of
from fourlane.telling import tell

__all__ = ["Delivery"]

_Written = tuple[str, Word, bytes]
"""A ticket, and what became of it."""


class Delivery:
    """Delivers what came of one batch."""

    def __init__(self, store: Store, batches: Batches, caller: Caller, name: str) -> None:
        self._store, self._batches, self._caller, self._name = store, batches, caller, name

    async def take(self, results: list[Result]) -> bool:
        """Some results. True: more are wanted."""
        await self._deliver([(result.id, *_written(result)) for result in results])
        return True

    async def of_failed(self, batch: Batch) -> None:
        """A batch that was not begun: the requests whose lines are at fault are refused, the others are not."""
        lines = {line: f"{code}: {words}" for line, code, words in batch.faults if line}
        tickets = [ticket for some in self._batches.members(self._name) for ticket in some]
        at_fault: list[_Written] = [
            (ticket, "refused", _refusal(400, lines[number]))
            for number, ticket in enumerate(tickets, 1)
            if number in lines
        ]
        await self._deliver(at_fault)

    async def not_asked(self, words: str) -> None:
        """No more results will come: what has none was not asked."""
        for some in self._batches.members(self._name):
            await self._deliver([(ticket, "again", words.encode()) for ticket in some])

    async def tell_again(self) -> bool:
        """The jobs that were not told; whether all know now."""
        for some in self._batches.members(self._name):
            await self._tell(some)
        return not self._batches.size(self._name)

    async def _deliver(self, answers: Sequence[_Written]) -> None:
        if answers:
            await asyncio.to_thread(self._write, answers)
            await self._tell([ticket for ticket, _, _ in answers])

    async def _tell(self, tickets: Sequence[str]) -> None:
        """Let the jobs of those that have an answer run; what belongs to none any more is booked."""
        done, orphans = await asyncio.to_thread(self._hasten, tickets)
        for ticket, whose, kept in orphans:
            if kept.word == "answer":
                await book_orphan(self._caller.config, ticket, whose, kept.answer)
            await asyncio.to_thread(self._batches.forget, ticket)
        await asyncio.to_thread(self._batches.done_with, self._name, done)

    # In a thread ----------------------------------------------------------------------------------------------

    def _write(self, answers: Sequence[_Written]) -> None:
        """What was written before stays."""
        known = {ticket: self._whose(ticket) for ticket, _, _ in answers}
        closed = [
            (ticket, word, seal_file(ticket, answer) if (whose := known[ticket]) and whose.sealed else answer)
            for ticket, word, answer in answers
        ]
        self._batches.answer(self._name, closed)
        for word, number in Counter(word for _, word, _ in answers).items():
            tell.counted("ai_batch_requests", (self._caller.provider, word), number)

    def _whose(self, ticket: str) -> Whose | None:
        found = self._batches.look(ticket)
        return None if found is None else msgspec.json.decode(found.about, type=Whose)

    def _hasten(self, tickets: Sequence[str]) -> tuple[list[str], list[tuple[str, Whose, Ticket]]]:
        """The tickets that are done with, and of those what belongs to no job any more."""
        found = {ticket: self._batches.look(ticket) for ticket in tickets}
        done = [ticket for ticket, kept in found.items() if kept is None]  # its job has taken it
        answered = {ticket: kept for ticket, kept in found.items() if kept is not None and kept.word}
        orphans: list[tuple[str, Whose, Ticket]] = []
        for service, some in _by_service(answered).items():
            words = hasten(self._store, service, [whose.job for _, whose in some])
            for (ticket, whose), word in zip(some, words, strict=True):
                if word == "over":
                    orphans.append((ticket, whose, answered[ticket]))
                if word != "busy":
                    done.append(ticket)
        return done, orphans


def _by_service(answered: Mapping[str, Ticket]) -> dict[str, list[tuple[str, Whose]]]:
    by_service: dict[str, list[tuple[str, Whose]]] = {}
    for ticket, kept in answered.items():
        whose = msgspec.json.decode(kept.about, type=Whose)
        by_service.setdefault(whose.service, []).append((ticket, whose))
    return by_service


def _written(result: Result) -> tuple[Word, bytes]:
    word = word_of(result)
    if word == "answer":
        return word, msgspec.json.encode(result.message)
    if word == "refused":
        return word, _refusal(result.status, result.words)
    return word, result.words.encode()


def _refusal(status: int, words: str) -> bytes:
    return msgspec.json.encode({"status": status, "words": words[:1_000]})
