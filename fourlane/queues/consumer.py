"""A consumer for dramatiq's own Worker: the same leases, one queue at a time."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable
from typing import Any

import dramatiq
from dramatiq.broker import Consumer, MessageProxy

from fourlane import job
from fourlane.errors import RedisUnavailable, UnreadableJob
from fourlane.outcome import Back, Dead, Outcome, Retry
from fourlane.queues.broker import RedisBroker, message_of, read_record, write_record
from fourlane.queues.pulse import BEAT_SECONDS, SILENCE_MS
from fourlane.queues.store import Leased

__all__ = ["LeaseConsumer"]


class LeasedMessage(MessageProxy):
    """A message and the lease on its job."""

    def __init__(self, message: dramatiq.Message[Any], leased: Leased) -> None:
        super().__init__(message)
        self.leased = leased
        self.takes_retry = False
        self.enqueued_again: tuple[dramatiq.Message[Any], int | None] | None = None


class LeaseConsumer(Consumer):
    """Leases jobs of one queue. A thread of its own beats, for dramatiq gives consumers no supervisor."""

    def __init__(self, broker: RedisBroker, queue_name: str, prefetch: int, timeout_ms: int) -> None:
        self.broker = broker
        self.queue_name = queue_name
        queue = self.queue = broker.queue_of(queue_name)
        self.prefetch = max(1, prefetch)
        self.timeout_ms = timeout_ms
        self.name = f"consumer-{uuid.uuid4().hex[:12]}"
        store = broker.store
        self.link = store.connector.open(store.service(queue.service).jobs)
        self.lock = threading.RLock()
        self.held: set[str] = set()
        self.waiting: deque[LeasedMessage] = deque()
        self.closed = threading.Event()
        store.announce(queue.service)
        self.beater = threading.Thread(target=self._beat, daemon=True)
        self.beater.start()

    def __next__(self) -> MessageProxy | None:
        deadline = time.monotonic() + self.timeout_ms / 1000
        while not self.waiting:
            if not self._lease() and not self._wait(deadline):
                return None
        return self.waiting.popleft()

    def _lease(self) -> bool:
        room = self.prefetch - len(self.held)
        if room <= 0:
            return False
        turn = self._turn(flags="bk", want=room, tiers=str(int(self.queue.tier)))
        for name in turn.expired:
            self.broker.store.reclaim(self.queue.service, name, f"{name} fell silent")
        if turn.lost:
            self._rename()
        for leased in turn.jobs:
            self.held.add(leased.entry)
            try:
                message = message_of(self.broker, self.queue.service, leased, self.queue_name)
            except UnreadableJob as error:
                self._settle(leased.entry, Dead("rejected", str(error), leased.record))
            else:
                self.waiting.append(LeasedMessage(message, leased))
        return bool(self.waiting)

    def _wait(self, deadline: float) -> bool:
        """Wait a little for a token; False when the time is up."""
        left = min(1.0, deadline - time.monotonic())
        if left <= 0.001:
            return False
        keys = self.broker.store.service(self.queue.service)
        if len(self.held) >= self.prefetch:
            self.closed.wait(min(left, 0.01))
        else:
            with self.lock:
                self.link.command("BZPOPMIN", keys.wake[self.queue.tier], f"{min(left, 0.2):.3f}")
        return True

    def ack(self, message: MessageProxy) -> None:
        assert isinstance(message, LeasedMessage)
        again = message.enqueued_again
        if again is None:
            self._settle(message.leased.entry, None)
            return
        record = read_record(message.leased.record)
        copy, delay_ms = again
        record.attempts = int(copy.options.get("retries", record.attempts + 1))
        record.options = {k: v for k, v in copy.options.items() if k != "traceback"}
        error = str(copy.options.get("traceback", "")).strip().rpartition("\n")[2]
        attempt = job.Attempt(_now_ms(), error, str(copy.options.get("traceback", "")), self.name)
        self._settle(message.leased.entry, Retry(delay_ms or 0, write_record(record, attempt), error))

    def nack(self, message: MessageProxy) -> None:
        assert isinstance(message, LeasedMessage)
        record = read_record(message.leased.record)
        record.attempts += 1
        exception = message._exception
        error = f"{type(exception).__name__}: {exception}" if exception else "rejected"
        attempt = job.Attempt(_now_ms(), error, str(message.options.get("traceback", "")), self.name)
        self._settle(message.leased.entry, Dead("error", error, write_record(record, attempt)))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        for message in messages:
            assert isinstance(message, LeasedMessage)
            self._settle(message.leased.entry, Back())

    def close(self) -> None:
        self.closed.set()
        try:
            self.requeue(list(self.waiting))
            self.waiting.clear()
            self.broker.store.leave(self.queue.service, self.name)
        except RedisUnavailable as error:
            self.broker.logger.warning("%s; the jobs come back when this consumer counts as dead", error)
        self.link.close()

    def _settle(self, entry: str, outcome: Outcome | None) -> None:
        self.held.discard(entry)
        turn = self._turn(done=[entry] if outcome is None else [], others=[(entry, outcome)] if outcome else [])
        if turn.refused:
            self.broker.logger.warning("The lease on job %s was lost; it runs again elsewhere.", entry)

    def _turn(self, **what: Any) -> Any:
        with self.lock:
            return self.broker.store.turn(
                self.link,
                self.queue.service,
                self.name,
                silence_ms=SILENCE_MS,
                idle_silence_ms=60_000,
                **what,
            )

    def _rename(self) -> None:
        self.name = f"consumer-{uuid.uuid4().hex[:12]}"
        self.held.clear()

    def _beat(self) -> None:
        store, link = self.broker.store, None
        while not self.closed.wait(BEAT_SECONDS):
            if self.held:
                try:
                    link = link or store.connector.open(store.service(self.queue.service).jobs)
                    store.beat(link, self.queue.service, [self.name], SILENCE_MS)
                except RedisUnavailable as error:
                    self.broker.logger.warning("%s", error)
        if link is not None:
            link.close()


def _now_ms() -> int:
    return int(time.time() * 1000)
