"""A store on the shared server, and a hand that takes jobs through their lives in it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import pytest

from fourlane import codec
from fourlane.job import Attempt, Record, entry_of, id_of_message, new_id
from fourlane.names import Tier
from fourlane.outcome import Dead, Outcome
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Delayed, Store
from fourlane.queues.turn import Ask, Turn


@pytest.fixture
def store(redis_url: str, namespace: str) -> Iterator[Store]:
    opened = Store(Connector(client_of(redis_url)), namespace=namespace, environment="local")
    yield opened
    opened.connector.close()


_EVERYTHING: Final = Ask(look=True, beat=True, control=True)


class Hand:
    """Does what producers and workers do, one step at a time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.link = store.connector.open(store.keys.services)

    def enqueue(self, count: int = 1, *, service: str = "mail", tier: int = 1, task: str = "send") -> list[str]:
        pairs: list[Any] = []
        for number in range(count):
            pairs += (new_id(tier, int(time.time() * 1000)), codec.encode(task, [number], {"to": "x"}))
        self.store.enqueue(service, tier, pairs)
        return pairs[::2]

    def enqueue_foreign(self, message_id: str, *, service: str = "mail", tier: int = 1) -> str:
        job_id = id_of_message(message_id, Tier(tier))
        self.store.enqueue(service, tier, (entry_of(job_id, 1_000), codec.encode("send", enqueued_ms=1_000)))
        return job_id

    def delay(self, milliseconds: int = 60_000, *, service: str = "mail", tier: int = 1) -> str:
        job_id = new_id(tier, int(time.time() * 1000))
        self.store.delay(service, [Delayed(job_id, codec.encode("send"), milliseconds)])
        return job_id

    def turn(
        self,
        want: int = 0,
        *,
        service: str = "mail",
        name: str = "w1",
        ask: Ask = _EVERYTHING,
        held: int = 0,
        others: Sequence[tuple[str, Outcome]] = (),
        done: Sequence[str] = (),
    ) -> Turn:
        ask = msgspec.structs.replace(
            ask, want=want, tiers="0123", held=held, silence_ms=60_000, idle_silence_ms=60_000
        )
        return self.store.turn(self.link, service, name, ask, others=others, done=done)

    def kill(self, count: int = 1, *, reason: str = "error", detail: str = "boom", **where: Any) -> list[str]:
        """Enqueue jobs and make them dead letters, all in one millisecond."""
        self.enqueue(count, **where)
        return self.bury(count, reason=reason, detail=detail, service=where.get("service", "mail"))

    def bury(self, count: int, *, reason: str = "error", detail: str = "boom", service: str = "mail") -> list[str]:
        """Lease jobs and let them fail for the last time."""
        died: list[str] = []
        while len(died) < count:
            leased = self.turn(min(count - len(died), 100), service=service).jobs
            assert leased
            outcomes = [(j.entry, Dead(reason, detail, _record(j.record))) for j in leased]
            self.turn(service=service, others=outcomes)
            died += [job.entry.partition("|")[0] for job in leased]
        return died


def _record(before: bytes) -> bytes:
    record = msgspec.json.decode(before, type=Record) if before else Record()
    record.attempts += 1
    record.errors = [*record.errors, Attempt(1_000, "ValueError: boom", "Traceback", "w1")]
    return msgspec.json.encode(record)


@pytest.fixture
def hand(store: Store) -> Iterator[Hand]:
    made = Hand(store)
    yield made
    made.link.close()
