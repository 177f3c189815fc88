"""A consumer for dramatiq's own Worker: the same leases, one queue at a time.

Its thread leases and waits; dramatiq's worker threads settle. Turns are taken one at a time, on one link, for Redis is
told how many leases this consumer believes to hold. The wait has a link of its own, so that nobody waits for it.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import dramatiq
import msgspec
from dramatiq.broker import Consumer, MessageProxy

from fourlane import codec, job
from fourlane.errors import RedisUnavailable
from fourlane.outcome import Back, Dead, Done, Outcome, Retry
from fourlane.queues import control
from fourlane.queues.away import closed_to_dramatiq
from fourlane.queues.contact import Contact
from fourlane.queues.messages import Named, message_of
from fourlane.queues.pulse import BEAT_SECONDS, SILENCE_MS
from fourlane.queues.records import options_of_retry, read_record, write_record
from fourlane.queues.redis import Link, blocks_for, is_refusal
from fourlane.queues.refusals import instead_of
from fourlane.queues.tally import Tally
from fourlane.queues.turn import Ask, Leased, Turn
from fourlane.queues.words import UNSAID, text_of, words_of, writable

__all__ = ["LeaseConsumer"]


_LONGEST_WAIT_SECONDS: Final = 1.0
_IDLE_SILENCE_MS: Final = 60_000


class Owner(Named, Protocol):
    """The broker whose consumer it is."""

    @property
    def logger(self) -> logging.Logger: ...


class LeasedMessage(MessageProxy):
    """A message and the lease on its job."""

    def __init__(self, message: dramatiq.Message[Any], leased: Leased, holder: str) -> None:
        super().__init__(message)
        self.leased = leased
        self.holder = holder
        self.sealed = codec.is_sealed(codec.decode(leased.body))
        self.takes_retry = False
        self.enqueued_again: tuple[dramatiq.Message[Any], int | None] | None = None


class LeaseConsumer(Consumer):
    """Leases jobs of one queue. A thread of its own beats, for dramatiq gives consumers no supervisor."""

    def __init__(self, broker: Owner, queue_name: str, prefetch: int, timeout_ms: int) -> None:
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
        self.controlled = False  # the service has a pause or a limit
        self.tally = Tally()
        self.due_at = math.inf
        self.told_at = -math.inf  # when others were last told to watch this one
        self.contact = Contact(time.monotonic())
        self.waiting: deque[LeasedMessage] = deque()
        self.unreadable: deque[tuple[str, str, Dead]] = deque()  # with their holders; to be settled
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
        self._refresh()
        self.waiter.close()
        try:
            self.waiter = self._open()
        except RedisUnavailable as error:
            self.broker.logger.debug("%s", error)

    def _refresh(self) -> None:
        try:
            self.store.connector.refresh()
        except RedisUnavailable as error:
            self.broker.logger.debug("%s", error)

    def _lease(self) -> bool:
        self._settle_unreadable()
        with self.lock:
            room = self.prefetch - len(self.held)
            if room <= 0:
                return False
            now = time.monotonic()
            tells = now - self.told_at > SILENCE_MS / 1000
            turn = self._turn(Ask(room, str(int(self.queue.tier)), look=True, beat=True, watch=tells))
            self.held.update(leased.entry for leased in turn.jobs)
            if tells and self.held:
                self.told_at = now
            for leased in turn.jobs:
                self._take(leased, self.name)
        self._settle_unreadable()
        for name in turn.expired:
            self._reclaim(name)
        return bool(self.waiting)

    def _take(self, leased: Leased, holder: str) -> None:
        try:
            message = message_of(self.broker, self.queue.service, leased, self.queue_name)
        except Exception as error:
            self.unreadable.append((leased.entry, holder, Dead("rejected", text_of(error), leased.record)))
        else:
            self.waiting.append(LeasedMessage(message, leased, holder))

    def _settle_unreadable(self) -> None:
        while self.unreadable:
            try:
                self._settle(*self.unreadable[0])
            except RedisUnavailable as error:
                self.broker.logger.warning("%s; trying again", error)
                return
            self.unreadable.popleft()

    def _reclaim(self, name: str) -> None:
        if self.contact.whole_silence_at(time.monotonic()) > time.monotonic():
            return  # it may be Redis that was silent
        try:
            self.store.reclaim(self.queue.service, name, f"{name} fell silent")
        except RedisUnavailable as error:
            self.broker.logger.warning("%s", error)

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

    @closed_to_dramatiq
    def ack(self, message: MessageProxy) -> None:
        assert isinstance(message, LeasedMessage)
        self._end(message, Done() if message.enqueued_again is None else self._retry)
        if message.enqueued_again is not None:
            self.store.wake(self.queue.service, int(self.queue.tier))  # who waits does not know of the moment

    @closed_to_dramatiq
    def nack(self, message: MessageProxy) -> None:
        assert isinstance(message, LeasedMessage)
        self._end(message, self._dead)

    def _end(self, message: LeasedMessage, outcome: Done | Callable[[LeasedMessage], Outcome]) -> None:
        """Settle it. What cannot be written as it ended, such as options that are no JSON, is a dead letter."""
        entry, holder = message.leased.entry, message.holder
        try:
            self._settle(entry, holder, outcome(message) if callable(outcome) else outcome)
        except RedisUnavailable:
            raise
        except Exception as error:
            self.broker.logger.exception("The end of job %s could not be written.", entry)
            self._settle(entry, holder, Dead("error", words_of(error, unsaid=message.sealed), message.leased.record))

    def _retry(self, message: LeasedMessage) -> Retry:
        assert message.enqueued_again is not None
        copy, delay_ms = message.enqueued_again
        record = read_record(message.leased.record)
        record.attempts = int(copy.options.get("retries", record.attempts + 1))
        record.options = options_of_retry(copy.options)
        trace = "" if message.sealed else writable(str(copy.options.get("traceback", "")))
        error = UNSAID if message.sealed else trace.strip().rpartition("\n")[2]
        return Retry(delay_ms or 0, write_record(record, job.Attempt(_now_ms(), error, trace, self.name)), error)

    def _dead(self, message: LeasedMessage) -> Dead:
        record = read_record(message.leased.record)
        record.attempts += 1
        exception = message._exception
        error = words_of(exception, unsaid=message.sealed) if exception else "rejected"
        trace = "" if message.sealed else writable(str(message.options.get("traceback", "")))
        return Dead("error", error, write_record(record, job.Attempt(_now_ms(), error, trace, self.name)))

    @closed_to_dramatiq
    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        for message in messages:
            assert isinstance(message, LeasedMessage)
            self._settle(message.leased.entry, message.holder, Back())

    def close(self) -> None:
        self.closed.set()
        try:
            self.waiting.clear()  # what it holds goes back when it leaves
            self.store.leave(self.queue.service, self.name, self.tally.words())
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
            turn = self._turn(Ask(), [(entry, outcome)])
            while turn.faults:
                [(_, why)] = turn.faults
                self.broker.logger.error("job=%s: Redis refused how it ended: %s", entry, why)
                if isinstance(outcome, Back):
                    raise RedisUnavailable(f"Redis refused how job {entry} ended, and to take it back: {why}")
                outcome = instead_of(outcome, why)
                turn = self._turn(Ask(), [(entry, outcome)])
        if turn.refused:
            self.broker.logger.warning("The lease on job %s was lost; it runs again elsewhere.", entry)

    def _turn(self, ask: Ask, settled: Sequence[tuple[str, Outcome]] = ()) -> Turn:
        """With the lock held."""
        if self.out_of_step:
            self._resync()
        entries = {entry for entry, _ in settled}
        counts = ask.look or self.tally.is_due(time.monotonic())
        ask = msgspec.structs.replace(
            ask, held=len(self.held - entries), control=self.controlled, idle_silence_ms=_IDLE_SILENCE_MS
        )
        try:
            turn = self.store.turn(
                self.link,
                self.queue.service,
                self.name,
                ask,
                done=[entry for entry, outcome in settled if isinstance(outcome, Done)],
                others=[(entry, outcome) for entry, outcome in settled if not isinstance(outcome, Done)],
                done_before=self.tally.words() if counts else "",
            )
        except BaseException as error:  # an interrupt too: dramatiq raises them in its threads
            self.out_of_step = True
            if isinstance(error, RedisUnavailable) and not is_refusal(error):
                self._lose_contact()
            raise
        now = time.monotonic()
        self.contact.heard(now)
        entries -= {entry for entry, _ in turn.faults}
        self.held -= entries
        self.out_of_step = turn.off
        if counts:
            self.tally.told()
        unsettled = {*turn.refused, *(entry for entry, _ in turn.faults)}
        self.tally.add((), [(entry, outcome) for entry, outcome in settled if entry not in unsettled])
        self._learn_control(turn, ask)
        if turn.due_in is not None:
            self.due_at = now + turn.due_in / 1000
        if turn.lost:
            self._begin_anew()
        if entries:
            self.freed.set()
        return turn

    def _lose_contact(self) -> None:
        """In a cluster another node may be the one to ask."""
        self.contact.broke(time.monotonic())
        self._refresh()
        self.link.close()
        try:
            self.link = self._open()
        except RedisUnavailable as error:
            self.broker.logger.debug("%s", error)

    def _learn_control(self, turn: Turn, ask: Ask) -> None:
        known = self.controlled
        if turn.controlled or ask.control:
            self.controlled = turn.controlled
        if self.controlled and not known:  # what it leased before counts too
            try:
                control.rewrite(self.store, self.queue.service)
            except RedisUnavailable as error:
                self.broker.logger.warning("%s", error)
                self.controlled = False

    def _resync(self) -> None:
        """After a lost reply: give back what Redis says we hold and we never received."""
        held = self.store.held(self.queue.service, self.name)
        strangers = held - self.held
        self.held &= held
        self.out_of_step = False
        if strangers:
            self.out_of_step = bool(self._turn(Ask(), [(entry, Back()) for entry in strangers]).faults)

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
            if not self.held:
                continue
            try:
                link = link or self._open()
                lost = self.store.beat(link, self.queue.service, [name], SILENCE_MS).lost
                with self.lock:
                    if name in lost and name == self.name:
                        self._begin_anew()
                continue
            except RedisUnavailable as error:
                self.broker.logger.warning("%s", error)
            except Exception:
                self.broker.logger.exception("A beat met an error of its own; the next one may go better.")
            self._refresh()
            if link is not None:
                link.close()
                link = None  # in a cluster another node may be the one to ask
        if link is not None:
            link.close()


def _new_name() -> str:
    return f"consumer-{uuid.uuid4().hex[:12]}"


def _now_ms() -> int:
    return int(time.time() * 1000)
