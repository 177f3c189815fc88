"""Batches that are under way: how far they are, what has come of them, and what is done about those that do not end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec.structs import replace

from fourlane.providers.ai.batches import Batch, Result
from fourlane.queues.guards import Batches
from fourlane.queues.store import Store
from fourlane.tasks.ai.batches.delivering import Delivery
from fourlane.tasks.ai.batches.provider import Caller
from fourlane.tasks.ai.batches.records import Open, packed
from fourlane.tasks.ai.batches.rules import is_over, look_again_ms

__all__ = ["Looking"]

log = logging.getLogger("fourlane.ai")

_SKEW_MS: Final = 600_000


class Looking:
    """Looks at the batches of one provider, all by one call."""

    def __init__(self, store: Store, batches: Batches, caller: Caller, now_ms: Callable[[], int]) -> None:
        self._store, self._batches, self._caller, self._now_ms = store, batches, caller, now_ms

    async def round(self) -> None:
        records = {name: msgspec.json.decode(kept, type=Open) for name, kept in self._batches.open().items()}
        now = self._now_ms()
        for name, record in records.items():
            if record.state == "ended":
                await self._tell_the_rest(name)
        due = {name: one for name, one in records.items() if one.state in ("sent", "unsure") and one.look_ms <= now}
        if not due:
            return
        found = await self._caller.latest(min(one.sent_ms for one in due.values()) - _SKEW_MS)
        by_id = {batch.id: batch for batch in found}
        for wanted in {one.id for one in due.values() if one.id} - by_id.keys():
            batch = await self._caller.look(wanted)  # its clock is not ours
            if batch is not None:
                by_id[batch.id] = batch
        for name, record in due.items():
            if record.state == "unsure":
                await self._tell_apart(name, record, by_id)
            else:
                await self._look(name, record, by_id.get(record.id))

    async def _look(self, name: str, record: Open, batch: Batch | None) -> None:
        if batch is None or batch.state == "open":
            await self._wait_on(name, record, batch)
            return
        delivery = Delivery(self._store, self._batches, self._caller, name)
        if batch.state == "failed":
            await delivery.of_failed(batch)
        else:
            await self._caller.results(batch, delivery.take)
        await delivery.not_asked(batch.word)
        answered = batch.answered or record.answered
        self._keep(name, replace(record, state="ended", answered=answered, word=batch.word))
        log.info("ended batch=%s model=%s %s answered=%d", name, record.model, batch.word, answered)
        await self._tell_the_rest(name)

    async def _wait_on(self, name: str, record: Open, batch: Batch | None) -> None:
        """It is not over; one that should be is cancelled, and in the end given up."""
        now = self._now_ms()
        if batch is not None:
            record = replace(record, answered=batch.answered, word=batch.word)
        record = replace(record, look_ms=look_again_ms(record.sent_ms, now))
        what = is_over(record.formed_ms, record.cancelled_ms, now, self._caller.config.batch_within_seconds)
        if what == "cancel":
            if batch is not None:
                await self._caller.cancel(record.id)
            record = replace(record, cancelled_ms=now)
            log.warning("batch=%s model=%s takes too long; it is cancelled", name, record.model)
        elif what == "give up":
            log.error("batch=%s model=%s does not end; its jobs ask otherwise", name, record.model)
            await Delivery(self._store, self._batches, self._caller, name).not_asked("given up")
            record = replace(record, state="ended")
        self._keep(name, record)

    async def _tell_apart(self, name: str, record: Open, by_id: dict[str, Batch]) -> None:
        """Which of several batches is ours: the first result of one that ended tells."""
        left = list(record.candidates)
        for batch_id in record.candidates:
            batch = by_id.get(batch_id)
            if batch is None or batch.state == "open":
                continue
            if await self._is_ours(name, batch):
                for some in self._batches.members(name):
                    self._batches.sent(record.model, some)
                await self._look(name, replace(record, state="sent", id=batch_id, candidates=()), batch)
                return
            left.remove(batch_id)
        if left:
            await self._wait_on(name, replace(record, candidates=tuple(left)), None)
        else:  # none was: it never arrived
            self._keep(name, replace(record, state="forming", tried=False, candidates=()))

    async def _is_ours(self, name: str, batch: Batch) -> bool:
        members = {ticket for some in self._batches.members(name) for ticket in some}
        ours = False

        async def look(some: list[Result]) -> bool:
            nonlocal ours
            ours = any(result.id in members for result in some)
            return False

        await self._caller.results(batch, look)
        return ours

    async def _tell_the_rest(self, name: str) -> None:
        """Jobs that did not know yet; once all do, the batch is over."""
        if await Delivery(self._store, self._batches, self._caller, name).tell_again():
            self._batches.over(name)

    def _keep(self, name: str, record: Open) -> None:
        self._batches.keep(name, packed(record))
