"""A consumer for dramatiq's own Worker: the same leases, one queue at a time.

Its thread leases and waits; dramatiq's worker threads settle. Turns are taken one at a time, on one link, for Redis is
told how many leases this consumer believes to hold. The wait has a link of its own, so that nobody waits for it.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

import dramatiq
from dramatiq.broker import Consumer, MessageProxy

from fourlane import job
from fourlane.errors import RedisUnavailable, UnreadableJob
from fourlane.outcome import Back, Dead, Done, Outcome, Retry
from fourlane.queues.broker import RedisBroker, message_of, read_record, write_record
from fourlane.queues.connection import Link, blocks_for
from fourlane.queues.contact import Contact
from fourlane.queues.pulse import BEAT_SECONDS, SILENCE_MS
from fourlane.queues.store import Leased, Turn

__all__ = ["LeaseConsumer"]


_LONGEST_WAIT_SECONDS: Final = 1.0
_IDLE_SILENCE_MS: Final = 60_000


class LeasedMessage(MessageProxy):
    """A message and the lease on its job."""

    def __init__(self, message: dramatiq.Message[Any], leased: Leased, holder: str) -> None:
        super().__init__(message)
        self.leased = leased
        self.holder = holder
        self.takes_retry = False
        self.enqueued_again: tuple[dramatiq.Message[Any], int | None] | None = None


class LeaseConsumer(Consumer):
    """Leases jobs of one queue. A thread of its own beats, for dramatiq gives consumers no supervisor."""

    def __init__(self, broker: RedisBroker, queue_name: str, prefetch: int, timeout_ms: int) -> None:
        self.broker = broker
        self.store = broker.store
        self.queue_name = queue_name
        queue = self.queue = broker.queue_of(queue_name)
        self.prefetch = max(1, prefetch)
        self.timeout_ms = timeout_ms
        self.name = _new_name()
        self.keys = self.store.service(queue.service)
        self.lock = threading.RLock()  # of all that follows, as far as turns change it
        self.held: set[str] = set()
        self.out_of_step = False  # a turn failed: what Redis says we hold may not be what we know
        self.due_at = math.inf
        self.told_at = -math.inf  # when others were last told to watch this one
        self.contact = Contact(time.monotonic())
        self.waiting: deque[LeasedMessage] = deque()
        self.freed = threading.Event()
        self.closed = threading.Event()
        self.link = self._open()
        self.waiter = self._open()
        self.store.announce(queue.service)
        self.beater = threading.Thread(target=self._beat, daemon=True)
        self.beater.start()

    def _open(self) -> Link:
        return self.store.connector.open(self.keys.jobs)

    def __next__(self) -> MessageProxy | None:
        deadline = time.monotonic() + self.timeout_ms / 1000
        try:
            while not self.waiting:
                if not self._lease() and not self._wait(deadline):
                    return None
            return self.waiting.popleft()
        except IndexError:
            return None  # its lease was lost meanwhile
        except RedisUnavailable as error:
            # Raised, it would have dramatiq close this consumer, and what its threads run now would run twice.
            self.broker.logger.warning("%s; trying again", error)
            self._connect_anew()
            self.closed.wait(max(0.0, min(_LONGEST_WAIT_SECONDS, deadline - time.monotonic())))
            return None

    def _connect_anew(self) -> None:
        """In a cluster another node may be the one to ask."""
        with self.lock:
            try:
                self.store.connector.refresh()
                self.link.close()
                self.waiter.close()
                self.link, self.waiter = self._open(), self._open()
            except RedisUnavailable as error:
                self.broker.logger.debug("%s", error)

    def _lease(self) -> bool:
        with self.lock:
            room = self.prefetch - len(self.held)
            if room <= 0:
                return False
            now = time.monotonic()
            tells = not self.held and now - self.told_at > SILENCE_MS / 1000
            turn = self._turn(flags="bkw" if tells else "bk", want=room, tiers=str(int(self.queue.tier)))
            if tells and turn.jobs:
                self.told_at = now
            self.held.update(leased.entry for leased in turn.jobs)
            holder = self.name
        for name in turn.expired:
            self._reclaim(name)
        for leased in turn.jobs:
            try:
                message = message_of(self.broker, self.queue.service, leased, self.queue_name)
            except UnreadableJob as error:
                self._settle(leased.entry, holder, Dead("rejected", str(error), leased.record))
            else:
                self.waiting.append(LeasedMessage(message, leased, holder))
        return bool(self.waiting)

    def _reclaim(self, name: str) -> None:
        if self.contact.whole_silence_at(time.monotonic()) <= time.monotonic():  # else it may be Redis that was silent
            self.store.reclaim(self.queue.service, name, f"{name} fell silent")

    def _wait(self, deadline: float) -> bool:
        """Wait for a place, or for word of a job; False when the time is up."""
        now = time.monotonic()
        left = min(_LONGEST_WAIT_SECONDS, deadline - now)
        if left <= 0.001:
            return False
        self.freed.clear()
        if len(self.held) >= self.prefetch:
            self.freed.wait(left)
        elif self.due_at > now:
            seconds = blocks_for(min(left, self.due_at - now))
            self.waiter.command("BZPOPMIN", self.keys.wake[self.queue.tier], self.keys.news, seconds)
        return True

    def ack(self, message: MessageProxy) -> None:
        assert isinstance(message, LeasedMessage)
        again = message.enqueued_again
        if again is None:
            self._settle(message.leased.entry, message.holder, Done())
            return
        record = read_record(message.leased.record)
        copy, delay_ms = again
        record.attempts = int(copy.options.get("retries", record.attempts + 1))
        record.options = {k: v for k, v in copy.options.items() if k != "traceback"}
        error = str(copy.options.get("traceback", "")).strip().rpartition("\n")[2]
        attempt = job.Attempt(_now_ms(), error, str(copy.options.get("traceback", "")), self.name)
        outcome = Retry(delay_ms or 0, write_record(record, attempt), error)
        self._settle(message.leased.entry, message.holder, outcome)
        self.store.wake(self.queue.service, int(self.queue.tier))  # who waits does not know of the moment

    def nack(self, message: MessageProxy) -> None:
        assert isinstance(message, LeasedMessage)
        record = read_record(message.leased.record)
        record.attempts += 1
        exception = message._exception
        error = f"{type(exception).__name__}: {exception}" if exception else "rejected"
        attempt = job.Attempt(_now_ms(), error, str(message.options.get("traceback", "")), self.name)
        self._settle(message.leased.entry, message.holder, Dead("error", error, write_record(record, attempt)))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        for message in messages:
            assert isinstance(message, LeasedMessage)
            self._settle(message.leased.entry, message.holder, Back())

    def close(self) -> None:
        self.closed.set()
        try:
            self.requeue(list(self.waiting))
            self.waiting.clear()
            self.store.leave(self.queue.service, self.name)
        except RedisUnavailable as error:
            self.broker.logger.warning("%s; the jobs come back when this consumer counts as dead", error)
        self.link.close()
        self.waiter.close()

    def _settle(self, entry: str, holder: str, outcome: Outcome) -> None:
        """Raises RedisUnavailable: it is not known to be settled. The same call may be repeated."""
        with self.lock:
            if self.out_of_step:
                self._resync()
            if holder != self.name or entry not in self.held:
                # Or the reply was lost that said that it was settled.
                self.broker.logger.warning(
                    "The lease on job %s is over: if this was not settled, it runs again.", entry
                )
                return
            turn = self._turn(settled=[(entry, outcome)])
            for refused, why in turn.faults:
                self._settle_otherwise(refused, outcome, why)
        if turn.refused:
            self.broker.logger.warning("The lease on job %s was lost; it runs again elsewhere.", entry)

    def _settle_otherwise(self, entry: str, outcome: Outcome, why: str) -> None:
        """Redis refused to write how it ended: a dead letter says so; if it refuses that too, the job goes back."""
        self.broker.logger.error("job=%s: Redis refused how it ended: %s", entry, why)
        self.held.add(entry)
        refused = Dead("rejected", f"Redis refused to keep how it ended: {why}"[:1000], b"")
        self._settle(entry, self.name, Back() if isinstance(outcome, Dead) and not outcome.record else refused)

    def _turn(self, *, settled: Sequence[tuple[str, Outcome]] = (), **asked: Any) -> Turn:
        """With the lock held."""
        if self.out_of_step:
            self._resync()
        entries = {entry for entry, _ in settled}
        try:
            turn = self.store.turn(
                self.link,
                self.queue.service,
                self.name,
                silence_ms=SILENCE_MS,
                idle_silence_ms=_IDLE_SILENCE_MS,
                held=len(self.held - entries),
                done=[entry for entry, outcome in settled if isinstance(outcome, Done)],
                others=[(entry, outcome) for entry, outcome in settled if not isinstance(outcome, Done)],
                **asked,
            )
        except RedisUnavailable:
            self.contact.broke(time.monotonic())
            self.out_of_step = True
            raise
        now = time.monotonic()
        self.contact.heard(now)
        self.held -= entries
        self.out_of_step = turn.off
        if turn.due_in != -2:
            self.due_at = math.inf if turn.due_in < 0 else now + turn.due_in / 1000
        if turn.lost:
            self._begin_anew()
        if entries:
            self.freed.set()
        return turn

    def _resync(self) -> None:
        """After a lost reply: give back what Redis says we hold and we never received."""
        held = self.store.held(self.queue.service, self.name)
        strangers, self.held = held - self.held, held
        self.out_of_step = False
        if strangers:
            self._turn(settled=[(entry, Back()) for entry in strangers])

    def _begin_anew(self) -> None:
        """Its leases were lost: under a new name it holds nothing, and what runs here will not count."""
        with self.lock:
            self.name = _new_name()
            self.held.clear()
            self.waiting.clear()
            self.freed.set()

    def _beat(self) -> None:
        link: Link | None = None
        while not self.closed.wait(BEAT_SECONDS):
            name = self.name
            if self.held:
                try:
                    link = link or self._open()
                    lost = self.store.beat(link, self.queue.service, [name], SILENCE_MS).lost
                except RedisUnavailable as error:
                    self.broker.logger.warning("%s", error)
                    continue
                with self.lock:
                    if name in lost and name == self.name:
                        self._begin_anew()
        if link is not None:
            link.close()


def _new_name() -> str:
    return f"consumer-{uuid.uuid4().hex[:12]}"


def _now_ms() -> int:
    return int(time.time() * 1000)
