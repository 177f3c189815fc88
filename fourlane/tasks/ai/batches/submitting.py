"""Requests that wait become batches, and each batch is submitted once.

What is done is written down before: that a batch is made, which requests are in it, that its submission begins; and
then what became of that. A collector that is killed between any two of these leaves what the next one needs to go on.
Whether a submission arrived whose answer nobody heard the provider is asked: OpenAI keeps our name of a batch; of
Anthropic's that fit, each may be it until its results tell.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from fourlane.errors import ProviderDown, ProviderLimited
from fourlane.providers.ai.batches import MOST_REQUESTS, Batch
from fourlane.providers.ai.errors import status_of
from fourlane.queues.guards import Batches
from fourlane.queues.over import over
from fourlane.queues.store import Store
from fourlane.sealing import open_file
from fourlane.tasks.ai.batches.delivering import Delivery
from fourlane.tasks.ai.batches.provider import Caller
from fourlane.tasks.ai.batches.records import Open, Whose, packed
from fourlane.tasks.ai.batches.rules import MOST_BYTES, is_due, settle_ms
from fourlane.tasks.ai.figures import words_of

__all__ = ["Submitting"]

log = logging.getLogger("fourlane.ai")

_SKEW_MS: Final = 3_600_000  # between our clock and the provider's
_PLAIN: Final = b"{"


class Submitting:
    """Submits for one provider."""

    def __init__(self, store: Store, batches: Batches, caller: Caller, now_ms: Callable[[], int]) -> None:
        self._store, self._batches, self._caller, self._now_ms = store, batches, caller, now_ms
        self._config = caller.config
        self._most = MOST_REQUESTS[caller.provider]

    async def round(self) -> None:
        """Go on with what an earlier round began, then make batches of what is due."""
        known = {name: msgspec.json.decode(record, type=Open) for name, record in self._batches.open().items()}
        for name, record in known.items():
            if record.state == "forming":
                await self._go_on(name, record, {one.id for one in known.values()})
        for model in self._batches.collections():
            while self._is_due(model):
                if not await self._make(model):
                    break

    def _is_due(self, model: str) -> bool:
        number, oldest_ms = self._batches.waiting(model)
        wait = self._config.batch_wait_seconds
        return is_due(number, oldest_ms, self._now_ms(), wait_seconds=wait, most=self._most)

    async def _make(self, model: str) -> bool:
        """Make a batch of what waits and submit it; whether that went well."""
        name = f"fourlane-{uuid.uuid4().hex[:24]}"
        record = Open(model=model, formed_ms=self._now_ms())
        self._batches.keep(name, packed(record))
        number, size, full = 0, 0, False
        while not full and number < self._most:
            left = MOST_BYTES - size
            moved, bytes_moved, full = self._batches.gather(model, name, most=self._most - number, most_bytes=left)
            number, size = number + len(moved), size + bytes_moved
        return await self._submit(name, record)

    async def _go_on(self, name: str, record: Open, known: set[str]) -> None:
        """An earlier round did not get to the end of this batch's submission."""
        if not record.tried:
            await self._submit(name, record)
        elif not record.lost_ms:
            self._keep(name, replace(record, lost_ms=self._now_ms()))
        elif self._now_ms() - record.lost_ms >= settle_ms(self._config.batch_wait_seconds):
            await self._find(name, record, known)

    async def _find(self, name: str, record: Open, known: set[str]) -> None:
        """Whether the submission arrived, as the provider's list tells; if not, it is submitted again."""
        found = await self._caller.latest(record.tried_ms - _SKEW_MS)
        named = next((batch for batch in found if batch.name == name), None)
        if named is not None:
            await self._sent(name, record, named.id)
            return
        candidates = tuple(batch.id for batch in found if batch.id not in known and _may_be(batch, record))
        if candidates:
            log.warning("which of %s is the batch %s shows when one ends", ", ".join(candidates), name)
            self._keep(name, replace(record, state="unsure", candidates=candidates, sent_ms=record.tried_ms))
        else:
            await self._submit(name, record)

    async def _submit(self, name: str, record: Open) -> bool:
        requests = await self._requests(name, record.model)
        if not requests:
            self._batches.over(name)
            return True
        now = self._now_ms()
        record = replace(record, tried=True, tried_ms=now, lost_ms=0, requests=len(requests))
        self._keep(name, record)
        try:
            batch_id = await self._caller.submit(name, requests)
        except (ProviderDown, ProviderLimited):
            self._keep(name, replace(record, tried=False))
            raise
        except Exception as error:
            await self._failed(name, record, error)
            return False
        await self._sent(name, record, batch_id)
        return True

    async def _failed(self, name: str, record: Open, error: Exception) -> None:
        """A refusal says that there is no such batch; all else leaves open whether the provider has it."""
        log.warning("the batch %s of %s was not submitted: %s", name, record.model, words_of(error))
        status = status_of(error)
        if status is None or status >= 500 or status in (408, 409):
            self._keep(name, replace(record, lost_ms=self._now_ms()))
        elif status == 429:
            self._keep(name, replace(record, tried=False))
        else:
            await self._drop_bodies(name, record.model)
            await Delivery(self._store, self._batches, self._caller, name).not_asked(words_of(error))
            self._keep(name, replace(record, state="ended", word="refused", look_ms=0))

    async def _sent(self, name: str, record: Open, batch_id: str) -> None:
        now = self._now_ms()
        self._keep(name, replace(record, state="sent", id=batch_id, sent_ms=now, look_ms=0, candidates=()))
        await self._drop_bodies(name, record.model)
        log.info("submitted batch=%s model=%s requests=%d as %s", name, record.model, record.requests, batch_id)

    async def _drop_bodies(self, name: str, model: str) -> None:
        for some in self._batches.members(name):
            await asyncio.to_thread(self._batches.sent, model, some)

    async def _requests(self, name: str, model: str) -> list[tuple[str, bytes]]:
        """What the batch's members ask; without those whose job is over."""
        found: list[tuple[str, bytes]] = []
        for some in self._batches.members(name):
            living = await asyncio.to_thread(self._living, name, model, some)
            bodies = self._batches.bodies(model, living)
            for ticket, body in zip(living, bodies, strict=True):
                if body is not None:
                    found.append((ticket, body if body.startswith(_PLAIN) else open_file(ticket, body)))
        return found

    def _living(self, name: str, model: str, tickets: Sequence[str]) -> list[str]:
        """Those whose job still wants an answer; the others are taken away: nothing was paid for them."""
        of = {ticket: found for ticket in tickets if (found := self._batches.look(ticket)) is not None}
        whose = {ticket: msgspec.json.decode(found.about, type=Whose) for ticket, found in of.items()}
        done: set[str] = {ticket for ticket in tickets if ticket not in whose}
        for service in {one.service for one in whose.values()}:
            of_service = [ticket for ticket, one in whose.items() if one.service == service]
            gone = over(self._store, service, [whose[ticket].job for ticket in of_service])
            done |= {ticket for ticket in of_service if whose[ticket].job in gone}
        if done:
            self._batches.withdraw(model, sorted(done), name)
        return [ticket for ticket in tickets if ticket not in done]

    def _keep(self, name: str, record: Open) -> None:
        self._batches.keep(name, packed(record))


def _may_be(batch: Batch, record: Open) -> bool:
    return not batch.name and batch.requests == record.requests
