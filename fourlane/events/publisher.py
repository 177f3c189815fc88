"""Publishes events: written (outgoing.py), sent in batches (sender.py), kept while SQS is away (flusher.py).

Several calls of one ``publish_many`` go out side by side, for a call is mostly waiting; those of a FIFO queue one after
another, for their order is what it is for.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from fourlane.errors import BufferFull, EventsUnavailable
from fourlane.events import current
from fourlane.events.aws import MAX_BYTES, Aws
from fourlane.events.buffer import Buffer
from fourlane.events.flusher import Flusher
from fourlane.events.outgoing import Outgoing, Writer, batches
from fourlane.events.sender import Sender
from fourlane.names import check_tenant
from fourlane.queues import carry
from fourlane.telling import tell

__all__ = ["Published", "Publisher"]

log = logging.getLogger("fourlane.events")

_SIDE_BY_SIDE: Final = 4


class Published(NamedTuple):
    """An event that was accepted: by SQS, or by the local buffer while SQS could not be reached."""

    id: str
    buffered: bool = False


Fate = Published | EventsUnavailable


class Publisher:
    """May be shared by threads; close it, or use it as a context manager.

    Parameters:
      environment: the first word of every event's name.
      source: CloudEvents' ``source``: who publishes.
      bucket: for data over the size limit; without one such data is refused.
      max_bytes: the size limit of a message, and of a batch.
      buffer: takes events while SQS cannot be reached; without one that is an error.
    """

    def __init__(
        self,
        aws: Aws,
        *,
        environment: str,
        source: str,
        bucket: str = "",
        max_bytes: int = MAX_BYTES,
        buffer: Buffer | None = None,
    ) -> None:
        self.aws = aws
        self.environment = environment
        self.source = source
        self.max_bytes = max_bytes
        self.buffer = buffer
        self._writer = Writer(aws, environment, source, bucket, max_bytes)
        self._sender = Sender(aws)
        self._flusher = None if buffer is None else Flusher(buffer, self._sender, max_bytes)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def publish(
        self,
        name: str,
        data: Any,
        *,
        tenant: str | None = None,
        key: str = "",
        id: str = "",
        time: datetime | None = None,
        delay: timedelta | float | None = None,
    ) -> Published:
        """Publish one event; returns once it is accepted.

        Parameters:
          name: ``CATEGORY.TYPE``, e.g. ``platform.user-signup``.
          data: an instance of the declared model, or what it can be made of; any JSON when none is declared.
          tenant: on whose behalf; SQS serves tenants in turn. That of the job that runs here by default, ``""`` for
            none.
          key: events of one key keep their order on a FIFO queue.
          id: the event's own, for one that may be published twice; else a random one.
          time: when it happened; now by default.
          delay: seconds, or a timedelta, before which it shall not be handled.

        Raises:
          InvalidName: of the event, or of the tenant.
          InvalidEvent: the data breaks its model, or is not JSON; or another argument is wrong.
          EventTooLarge: there is no bucket for it.
          EventsUnavailable: neither SQS nor the buffer took it.
          LeaseLost: the run that publishes it lost its own job.
        """
        with self._carried(name, 1) as trace:
            written = self._writer.write(
                name, data, trace=trace, tenant=_tenant(tenant), key=key, id=id, time=time, delay=delay
            )
            return self._send([written])[0]

    def publish_many(
        self,
        name: str,
        items: Iterable[Any],
        *,
        tenant: str | None = None,
        key: str | Callable[[Any], str] = "",
        delay: timedelta | float | None = None,
    ) -> list[Published]:
        """Publish many events of one kind, in as few calls as SQS allows. All are checked before the first is sent.

        Parameters:
          items: the data of each.
          key: of all, or a function of an event's data.

        Raises:
          EventsUnavailable: some were not accepted; its ``unsent`` has their positions among the items.
        """
        of_item = key if callable(key) else lambda _: key
        items, whose = list(items), _tenant(tenant)
        with self._carried(name, len(items)) as trace:
            return self._send(
                [
                    self._writer.write(name, item, trace=trace, tenant=whose, key=of_item(item), delay=delay)
                    for item in items
                ]
            )

    async def apublish(self, name: str, data: Any, **options: Any) -> Published:
        """As publish, without blocking the event loop."""
        return await asyncio.to_thread(self.publish, name, data, **options)

    async def apublish_many(self, name: str, items: Iterable[Any], **options: Any) -> list[Published]:
        """As publish_many, without blocking the event loop."""
        return await asyncio.to_thread(self.publish_many, name, items, **options)

    def close(self) -> None:
        """Send what is buffered, if SQS takes it now; the rest stays in the file for the next process."""
        self._sender.hurry()
        if self._flusher is not None:
            self._flusher.close()
        if self._pool is not None:
            self._pool.shutdown()
        if self.buffer is not None and (left := self.buffer.count()):
            log.warning("buffer: %d event(s) wait in %s for the next publisher", left, self.buffer.path)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _carried(self, name: str, number: int) -> Iterator[tuple[str, str]]:
        """The trace that goes along: a span of this publish, what observers say, or that of the event handled here."""
        carry.refuse_late()
        with tell.sending(f"{self.environment}.events.{name}", name, number) as along:
            if "traceparent" in along:
                yield along["traceparent"], along.get("tracestate", "")
            else:
                yield current.trace()

    def _send(self, outgoing: list[Outgoing]) -> list[Published]:
        """Raises EventsUnavailable: some were not accepted."""
        calls = list(batches(outgoing, self.max_bytes))
        if len(calls) > 1 and not outgoing[0].queue.fifo:
            done = list(self._threads().map(self._send_batch, calls))
        else:
            done = [self._send_batch(batch) for batch in calls]
        fates = [fate for batch in done for fate in batch]
        published = [fate for fate in fates if isinstance(fate, Published)]
        if len(published) < len(fates):
            raise _failure(fates)
        return published

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="fourlane-publish")
            return self._pool

    def _send_batch(self, batch: list[Outgoing]) -> list[Fate]:
        """The fate of each."""
        queue, entries = batch[0].queue, [one.entry for one in batch]
        if self._flusher is not None and self._flusher.others_wait(queue):
            failed = dict.fromkeys(range(len(batch)), EventsUnavailable("others wait before it", passing=True))
        else:
            failed = self._sender.send(queue, entries)
        waits = [i for i, error in failed.items() if error.passing]
        if not waits or self._flusher is None:
            return [failed.get(i) or Published(one.id) for i, one in enumerate(batch)]
        try:
            self._flusher.keep(queue, [entries[i] for i in waits], why=failed[waits[0]])
        except BufferFull as full:
            failed |= dict.fromkeys(waits, full)
            return [failed.get(i) or Published(one.id) for i, one in enumerate(batch)]
        refused = {i: error for i, error in failed.items() if not error.passing}
        return [refused.get(i) or Published(one.id, i in failed) for i, one in enumerate(batch)]


def _failure(fates: list[Fate]) -> EventsUnavailable:
    """What is raised where some were not accepted: the first error, and the positions of all that failed."""
    failures = {i: fate for i, fate in enumerate(fates) if isinstance(fate, EventsUnavailable)}
    failure = next(iter(failures.values()))
    if len(fates) > 1:
        text = f"{len(failures)} of {len(fates)} events were not accepted: {failure}"
        failure = type(failure)(text, passing=failure.passing)
    failure.unsent = list(failures)
    return failure


def _tenant(given: str | None) -> str:
    """Raises InvalidName."""
    return carry.current_tenant() if given is None else check_tenant(given)
