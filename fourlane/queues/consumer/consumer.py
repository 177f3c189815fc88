"""What dramatiq's Worker calls: the next message, its end, and a close. A thread of its own beats."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from dramatiq.broker import Consumer, MessageProxy

from fourlane.errors import RedisUnavailable
from fourlane.outcome import Back, Dead, Done, Outcome
from fourlane.queues.beat import BEAT_SECONDS
from fourlane.queues.consumer import ends
from fourlane.queues.consumer.ends import LeasedMessage
from fourlane.queues.consumer.holding import Holding
from fourlane.queues.dramatiq_errors import closed_to_dramatiq
from fourlane.queues.messages import Named, message_of
from fourlane.queues.redis import Link, blocks_for
from fourlane.queues.turn import Leased
from fourlane.queues.words import text_of
from fourlane.reasons import REJECTED

__all__ = ["LeaseConsumer"]

_LONGEST_WAIT_SECONDS: Final = 1.0


class Owner(Named, Protocol):
    """The broker whose consumer it is."""

    @property
    def logger(self) -> logging.Logger: ...


class LeaseConsumer(Consumer):
    """Leases jobs of one queue. A thread of its own beats, for dramatiq gives consumers no supervisor."""

    def __init__(self, broker: Owner, queue_name: str, prefetch: int, timeout_ms: int) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.queue = broker.queue_of(queue_name)
        self.prefetch = max(1, prefetch)
        self.timeout_ms = timeout_ms
        self.holding = Holding(broker.store, self.queue, broker.logger)
        self.waiting: deque[LeasedMessage] = deque()
        self.unreadable: deque[tuple[Leased, str, Dead]] = deque()  # with their holders; to be settled
        self.closed = threading.Event()
        self.waiter = self.holding.open()
        broker.store.announce(self.queue.service)
        self.beater = threading.Thread(target=self._beat, daemon=True)
        self.beater.start()

    def __next__(self) -> MessageProxy | None:
        deadline = time.monotonic() + self.timeout_ms / 1000
        try:
            while True:
                while self.waiting:
                    message = self.waiting.popleft()
                    if message.holder == self.holding.name:  # else its lease was lost meanwhile
                        return message
                if not self._lease() and not self._wait(deadline):
                    return None
        except RedisUnavailable as error:
            # Raised, it would have dramatiq close this consumer, and what its threads run now would run twice.
            self.broker.logger.warning("%s; trying again", error)
            self._connect_anew()
            self.closed.wait(max(0.0, min(_LONGEST_WAIT_SECONDS, deadline - time.monotonic())))
            return None

    def _connect_anew(self) -> None:
        self.holding.refresh()
        self.waiter.close()
        try:
            self.waiter = self.holding.open()
        except RedisUnavailable as error:
            self.broker.logger.debug("%s", error)

    def _lease(self) -> bool:
        self._settle_unreadable()
        answer = self.holding.lease(self.prefetch)
        if answer is None:
            return False
        turn, holder = answer
        for leased in turn.jobs:
            self._take(leased, holder)
        self._settle_unreadable()
        for name in turn.expired:
            self.holding.reclaim(name)
        return bool(self.waiting)

    def _take(self, leased: Leased, holder: str) -> None:
        try:
            message = message_of(self.broker, self.queue.service, leased, self.queue_name)
        except Exception as error:
            self.unreadable.append((leased, holder, Dead(REJECTED, text_of(error), leased.record)))
        else:
            self.waiting.append(LeasedMessage(message, leased, holder))

    def _settle_unreadable(self) -> None:
        while self.unreadable:
            leased, holder, outcome = self.unreadable[0]
            try:
                self.holding.settle(leased.entry, holder, outcome)
            except RedisUnavailable as error:
                self.broker.logger.warning("%s; trying again", error)
                return
            self.unreadable.popleft()

    def _wait(self, deadline: float) -> bool:
        """Wait for a place, or for word of a job; False when the time is up."""
        now = time.monotonic()
        left = min(_LONGEST_WAIT_SECONDS, deadline - now)
        if left <= 0.001:
            return False
        holding = self.holding
        holding.freed.clear()
        if len(holding.held) >= self.prefetch:
            holding.freed.wait(left)
        elif holding.due_at > now:
            seconds = blocks_for(min(left, holding.due_at - now))
            self.waiter.command("BZPOPMIN", holding.keys.wake[self.queue.tier], holding.keys.news, seconds)
        return True

    @closed_to_dramatiq
    def ack(self, message: MessageProxy) -> None:
        assert isinstance(message, LeasedMessage)
        if message.enqueued_again is None:
            self._settle(message, Done())
            return
        self._end(message, ends.retry)
        self.broker.store.wake(self.queue.service, int(self.queue.tier))  # who waits does not know of the moment

    @closed_to_dramatiq
    def nack(self, message: MessageProxy) -> None:
        assert isinstance(message, LeasedMessage)
        self._end(message, ends.dead)

    @closed_to_dramatiq
    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        for message in messages:
            assert isinstance(message, LeasedMessage)
            self._settle(message, Back())

    def _end(self, message: LeasedMessage, end: Callable[[LeasedMessage], Outcome]) -> None:
        try:
            self._settle(message, end(message))
        except RedisUnavailable:
            raise
        except Exception as error:
            self.broker.logger.exception("The end of job %s could not be written.", message.leased.entry)
            self._settle(message, ends.unwritten(message, error))

    def _settle(self, message: LeasedMessage, outcome: Outcome) -> None:
        self.holding.settle(message.leased.entry, message.holder, outcome)

    def close(self) -> None:
        self.closed.set()
        try:
            self.waiting.clear()  # what it holds goes back when it leaves
            self.holding.leave()
        except RedisUnavailable as error:
            self.broker.logger.warning("%s; the jobs come back when this consumer counts as dead", error)
        self.holding.link.close()
        self.waiter.close()

    def _beat(self) -> None:
        link: Link | None = None
        while not self.closed.wait(BEAT_SECONDS):
            if not self.holding.held:
                continue
            try:
                link = link or self.holding.open()
                self.holding.beat(link)
                continue
            except RedisUnavailable as error:
                self.broker.logger.warning("%s", error)
            except Exception:
                self.broker.logger.exception("A beat met an error of its own; the next one may go better.")
            self.holding.refresh()
            if link is not None:
                link.close()
                link = None  # in a cluster another node may be the one to ask
        if link is not None:
            link.close()
