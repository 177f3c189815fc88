"""Publishes events: check, envelope, offload what is large, send in batches, resend what failed, buffer.

Several calls of one ``publish_many`` go out side by side, for a call is mostly waiting; those of a FIFO queue one after
another, for their order is what it is for.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from fourlane.errors import BufferFull, EventsUnavailable
from fourlane.events import catalogue, envelope, offload
from fourlane.events.aws import BATCH, MAX_BYTES, Aws
from fourlane.events.buffer import Buffer, Buffered
from fourlane.events.envelope import Event
from fourlane.events.names import EventQueue, parse_event, parse_sqs
from fourlane.queues import carry
from fourlane.telling import tell

__all__ = ["Published", "Publisher", "current_event"]

log = logging.getLogger("fourlane.events")

_LONGEST_SQS_DELAY_SECONDS: Final = 900
_SIDE_BY_SIDE: Final = 4
_TRIES: Final = 5
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_BUFFER_PAUSE_SECONDS: Final = 30.0
_TOKEN: Final = re.compile(r"[!-~]{1,128}")  # what SQS takes for the ids of groups

_DOWN_SECONDS: Final = 5.0

handled: ContextVar[Event | None] = ContextVar("fourlane_current_event", default=None)


def current_event() -> Event | None:
    """The event whose handler runs here; None outside of one."""
    return handled.get()


class Published(NamedTuple):
    """An event that was accepted: by SQS, or by the local buffer while SQS could not be reached."""

    id: str
    buffered: bool = False


class _Outgoing(NamedTuple):
    id: str
    queue: EventQueue
    entry: dict[str, Any]
    size: int


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
        self.bucket = bucket
        self.max_bytes = max_bytes
        self.buffer = buffer
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._filled = threading.Event()
        self._flusher: threading.Thread | None = None
        self._down_until = 0.0
        if buffer is not None and buffer.count():
            self._flush_soon()

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
          InvalidName: of the event.
          InvalidEvent: the data breaks its model, or is not JSON.
          EventTooLarge: there is no bucket for it.
          EventsUnavailable: neither SQS nor the buffer took it.
          LeaseLost: the run that publishes it lost its own job.
        """
        with self._carried(name, 1) as trace:
            return self._send([self._outgoing(name, data, _tenant(tenant), key, id, time, delay, trace)])[0]

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
                [self._outgoing(name, item, whose, of_item(item), "", None, delay, trace) for item in items]
            )

    async def apublish(self, name: str, data: Any, **options: Any) -> Published:
        """As publish, without blocking the event loop."""
        return await asyncio.to_thread(self.publish, name, data, **options)

    async def apublish_many(self, name: str, items: Iterable[Any], **options: Any) -> list[Published]:
        """As publish_many, without blocking the event loop."""
        return await asyncio.to_thread(self.publish_many, name, items, **options)

    def close(self) -> None:
        """Send what is buffered, if SQS takes it now; the rest stays in the file for the next process."""
        self._closed.set()
        self._filled.set()
        if self._flusher is not None:
            self._flusher.join()
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
                yield _trace()

    # One event ----------------------------------------------------------------------------------------------

    def _outgoing(
        self,
        name: str,
        data: Any,
        tenant: str,
        key: str,
        id: str,
        time: datetime | None,
        delay: timedelta | float | None,
        trace: tuple[str, str],
    ) -> _Outgoing:
        event = parse_event(name, self.environment)
        kind = catalogue.of(event)
        queue = EventQueue(self.environment, event, kind.fifo)
        seconds = _seconds(delay)
        by_sqs = seconds <= _LONGEST_SQS_DELAY_SECONDS and not kind.fifo  # FIFO queues delay as a whole only
        written = envelope.write(
            event,
            kind.to_json(data),
            environment=self.environment,
            source=self.source,
            version=kind.version,
            id=id,
            tenant=tenant,
            key=key,
            time=time,
            deliver_at=None if by_sqs else datetime.now(UTC) + timedelta(seconds=seconds),
            trace=trace,
        )
        body = envelope.wire(written)
        size = len(body.encode())
        if size > self.max_bytes:
            written = offload.store(self.aws, self.bucket, written, event, self.environment, self.max_bytes)
            body = envelope.wire(written)
            size = len(body.encode())
        entry: dict[str, Any] = {"MessageBody": body}
        if kind.fifo:
            entry |= {
                "MessageGroupId": _token(key or str(event)),
                "MessageDeduplicationId": _token(written.unique_id),
            }
        elif tenant:
            entry["MessageGroupId"] = _token(tenant)  # on a standard queue: whose turn it is
        if by_sqs and seconds:
            entry["DelaySeconds"] = round(seconds)
        return _Outgoing(written.id, queue, entry, size)

    # Sending ------------------------------------------------------------------------------------------------

    def _send(self, outgoing: list[_Outgoing]) -> list[Published]:
        if len(outgoing) == 1 or (outgoing and outgoing[0].queue.fifo):
            results = [self._send_batch(batch) for batch in _batches(outgoing, self.max_bytes)]
        else:
            batches = list(_batches(outgoing, self.max_bytes))
            if len(batches) == 1:
                results = [self._send_batch(batches[0])]
            else:
                results = list(self._threads().map(self._send_batch, batches))
        published: list[Published] = []
        failures: list[EventsUnavailable] = []
        unsent: list[int] = []
        position = 0
        for batch in results:
            for one in batch:
                if isinstance(one, Published):
                    published.append(one)
                else:
                    failures.append(one)
                    unsent.append(position)
                position += 1
        if failures:
            failure = failures[0]
            if len(outgoing) > 1:
                text = f"{len(unsent)} of {len(outgoing)} events were not accepted: {failure}"
                failure = type(failure)(text, passing=failure.passing)
            failure.unsent = unsent
            raise failure
        return published

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="fourlane-publish")
            return self._pool

    def _send_batch(self, batch: list[_Outgoing]) -> list[Published | EventsUnavailable]:
        """The fate of each."""
        queue = batch[0].queue
        entries = [one.entry for one in batch]
        if self._goes_behind_others(queue):
            failed = dict.fromkeys(range(len(batch)), EventsUnavailable("others wait before it", passing=True))
        else:
            failed = self._try(queue, entries)
        waits = [i for i, error in failed.items() if error.passing]
        if waits and self.buffer is not None:
            try:
                self.buffer.put(queue.sqs_name, [entries[i] for i in waits])
            except BufferFull as error:
                failed.update(dict.fromkeys(waits, error))
            else:
                tell.buffered(queue.sqs_name, len(waits))
                log.warning("buffer: %d event(s) for %s kept locally: %s", len(waits), queue.sqs_name, failed[waits[0]])
                for i in waits:
                    del failed[i]
                self._down_until = time.monotonic() + _DOWN_SECONDS
                self._flush_soon()
                kept = set(waits)
                return [failed.get(i) or Published(one.id, i in kept) for i, one in enumerate(batch)]
        return [failed.get(i) or Published(one.id) for i, one in enumerate(batch)]

    def _goes_behind_others(self, queue: EventQueue) -> bool:
        """Straight into the buffer: SQS was down a moment ago, or order wants it."""
        if self.buffer is None:
            return False
        return time.monotonic() < self._down_until or (queue.fifo and self.buffer.count(queue.sqs_name) > 0)

    def _try(self, queue: EventQueue, entries: Sequence[dict[str, Any]]) -> dict[int, EventsUnavailable]:
        """Send, and send again what failed. Returns the errors of those that were not accepted, by position."""
        failed: dict[int, EventsUnavailable] = {}
        left = list(range(len(entries)))
        for attempt in range(_TRIES):
            if attempt:
                if self._closed.is_set():
                    break
                time.sleep(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
            began = time.monotonic()
            try:
                reply = self.aws.on(queue, "send_message_batch", Entries=[{"Id": str(i), **entries[i]} for i in left])
            except EventsUnavailable as error:
                failed.update(dict.fromkeys(left, error))
                if not error.passing:
                    break
                continue
            refused = {int(one["Id"]): one for one in reply.get("Failed", ())}
            tell.published(queue.sqs_name, len(left) - len(refused), attempt + 1, time.monotonic() - began)
            for i in left:
                failed.pop(i, None)
            for i, one in refused.items():
                failed[i] = EventsUnavailable(
                    f"SQS {queue.sqs_name}: {one.get('Code')}: {one.get('Message', '')}",
                    passing=not one.get("SenderFault"),
                )
            left = [i for i in refused if failed[i].passing]
            if not left:
                break
        return failed

    # The buffer ---------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        self._filled.set()
        with self._lock:
            if self._flusher is None:
                self._flusher = threading.Thread(target=self._flush, name="fourlane-buffer", daemon=True)
                self._flusher.start()

    def _flush(self) -> None:
        pause = 0.5
        while True:
            self._filled.wait()
            self._filled.clear()
            while self._send_buffered():
                if self._closed.wait(pause):
                    break
                pause = min(pause * 2, _LONGEST_BUFFER_PAUSE_SECONDS)
            else:
                pause = 0.5
            if self._closed.is_set():
                return

    def _send_buffered(self) -> int:
        """Returns how many still wait."""
        assert self.buffer is not None
        try:
            with self.buffer.sending() as mine:
                if mine:
                    for name in self.buffer.queues():
                        self._send_buffered_of(name)
            return self.buffer.count()
        except (sqlite3.Error, OSError) as error:
            log.error("buffer: %s cannot be read: %s", self.buffer.path, error)
            return 1
        except Exception:  # nobody would miss a thread that ended, but for the events
            log.exception("buffer: unexpected; trying again")
            return 1

    def _send_buffered_of(self, name: str) -> None:
        assert self.buffer is not None
        queue = parse_sqs(name)
        assert queue is not None
        while events := self._batch_of(name):
            failed = self._try(queue, [event.entry for event in events])
            sent = [event for i, event in enumerate(events) if i not in failed]
            self.buffer.remove(sent)
            if sent:
                log.info("buffer: sent %d event(s) to %s", len(sent), name)
            if failed:
                log.warning("buffer: %d event(s) for %s wait on: %s", len(failed), name, next(iter(failed.values())))
                return

    def _batch_of(self, name: str) -> list[Buffered]:
        assert self.buffer is not None
        batch: list[Buffered] = []
        size = 0
        for event in self.buffer.first(name, BATCH):
            size += len(event.entry["MessageBody"].encode())
            if batch and size > self.max_bytes:
                break
            batch.append(event)
        return batch


def _batches(outgoing: Iterable[_Outgoing], max_bytes: int) -> Iterator[list[_Outgoing]]:
    batch: list[_Outgoing] = []
    size = 0
    for one in outgoing:
        if batch and (len(batch) == BATCH or size + one.size > max_bytes or one.queue != batch[0].queue):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch


def _seconds(delay: timedelta | float | None) -> float:
    if delay is None:
        return 0.0
    seconds = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"delay must be 0 or more seconds, not {delay!r}")
    return seconds


def _token(text: str) -> str:
    return text if _TOKEN.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()


def _tenant(given: str | None) -> str:
    return carry.current_tenant() if given is None else given


def _trace() -> tuple[str, str]:
    found = tell.trace_context()
    event = current_event()
    if not found[0] and event is not None:
        return event.traceparent, event.tracestate
    return found
