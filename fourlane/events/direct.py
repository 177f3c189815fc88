"""Runs handlers straight from SQS, which keeps each event until all of its handlers succeeded.

1. Only as many messages are taken as there are free threads, so a stop finds hardly one that has not begun.
2. While a handler runs, its message stays hidden: visibility is extended in batches, up to some minutes before SQS's
   limit of 12 hours; then the handler is told to stop (visibility.py).
3. Success is recorded in Redis for each event and handler, so that one that SQS delivers twice is handled once, and a
   second handler that fails does not repeat the first. With Redis away handlers still run: at least once, then
   (handler_runs.py).
4. An error gives the message back after a pause; the last failure that is allowed, or too many receivers that died over
   it, sends it to the dead-letter queue, with its reason (endings.py). Receives that ended otherwise count nothing.
"""

from __future__ import annotations

import logging
import queue as queues
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from fourlane.errors import EncryptionError, InvalidEvent, RedisUnavailable, Reject
from fourlane.events import messages
from fourlane.events.aws import BATCH, Aws
from fourlane.events.burials import Burials
from fourlane.events.catalogue import Handler
from fourlane.events.delivery import Delivery
from fourlane.events.endings import BACKOFF, HANDLED, MAX_FAILURES, Again, Bury, Ending, as_kept
from fourlane.events.envelope import Envelope
from fourlane.events.hand import Gate, Hand
from fourlane.events.handler_runs import HandlerRuns, words_of
from fourlane.events.handlers import opened
from fourlane.events.messages import Message
from fourlane.events.mover import accept, checked
from fourlane.events.names import EventName, EventQueue
from fourlane.events.receiver import VISIBILITY_SECONDS
from fourlane.events.tries import NONE, POISON, Tries, TriesOf
from fourlane.events.visibility import Visibility, change_all
from fourlane.queues.store import Store
from fourlane.retry import Backoff

__all__ = ["Direct"]

log = logging.getLogger("fourlane.events")

_LONGEST_PAUSE_SECONDS: Final = 10.0


class Direct:
    """A Worker for receivers.

    Parameters:
      slots: handlers that run at once.
      timeout_ms: of handlers that say nothing else.
      max_failures: of one handler; then the event is a dead letter.
      backoff: after a failure.
      hand: told of what is in hand.
    """

    def __init__(
        self,
        aws: Aws,
        store: Store,
        handlers: Mapping[EventName, Sequence[Handler]],
        stopping: threading.Event,
        *,
        name: str,
        slots: int = 8,
        timeout_ms: int = 600_000,
        visibility_seconds: int = VISIBILITY_SECONDS,
        max_failures: int = MAX_FAILURES,
        backoff: Backoff = BACKOFF,
        hand: Hand | None = None,
    ) -> None:
        self.aws = aws
        self.store = store
        self.handlers = handlers
        self.stopping = stopping
        self.name = name
        self.tries = Tries(store)
        self.hand = hand or Hand()
        self._runs = HandlerRuns(
            store,
            handlers,
            self.hand,
            self.tries,
            timeout_ms=timeout_ms,
            claim_seconds=visibility_seconds,
            max_failures=max_failures,
            backoff=backoff,
        )
        self._gate = Gate()
        self._burials = Burials(aws)
        self._todo: queues.SimpleQueue[Delivery] = queues.SimpleQueue()
        self._changed = threading.Condition()
        self._free = slots
        self._deliveries: list[Delivery] = []
        for number in range(slots):
            threading.Thread(target=self._work, name=f"direct-{number}", daemon=True).start()
        Visibility(aws, store, visibility_seconds, self._present).start()

    # For the receivers --------------------------------------------------------------------------------------

    def room(self, queue: EventQueue) -> int:
        """Several queues may be promised the same threads: what finds none waits here, hidden, for the next one."""
        with self._changed:
            while self._free <= 0 and not self.stopping.is_set():
                self._changed.wait(0.5)
            if self.stopping.is_set():
                return 0
            # The order of a FIFO queue holds only while one message of a group is out at a time.
            return 1 if queue.fifo else min(BATCH, self._free)

    def take(self, queue: EventQueue, received: list[Message]) -> None:
        deliveries = [Delivery(queue, message, self.name) for message in received]
        self.hand.take(queue, received)
        with self._changed:
            self._free -= len(deliveries)
            self._deliveries += deliveries
        for delivery in deliveries:
            self._todo.put(delivery)

    def in_hand(self) -> int:
        """How many messages it has."""
        with self._changed:
            return len(self._deliveries)

    def stop(self, grace_seconds: float) -> None:
        """Give back what has not begun; let the rest run, tell it, then give it back too. Call it after stopping."""
        with self._changed:
            waiting = [delivery for delivery in self._deliveries if not delivery.begun]
            for delivery in waiting:
                delivery.over = True
        self._give_back(waiting)
        told_before = min(1.0, grace_seconds / 4)
        with self._changed:
            self._changed.wait_for(lambda: not self._running(), grace_seconds - told_before)
            for delivery in self._running():
                if not delivery.token:
                    delivery.token.set("shutdown")
            self._changed.wait_for(lambda: not self._running(), told_before)
            left = self._running()
            for delivery in left:
                delivery.over = True
        for delivery in left:
            self._runs.release(delivery)
        self._give_back(left)

    def _present(self) -> list[Delivery]:
        with self._changed:
            return [delivery for delivery in self._deliveries if not delivery.over]

    def _running(self) -> list[Delivery]:
        return [delivery for delivery in self._deliveries if delivery.begun and not delivery.over]

    def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        for queue, several in change_all(self.aws, deliveries, 0).items():
            self.hand.drop(several)
            log.info("gave back %d event(s) of %s", len(several), queue.event)

    # One message --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            delivery = self._todo.get()
            with self._changed:
                if not delivery.over:
                    delivery.begun = True
            try:
                if delivery.begun:
                    ending = self._handle(delivery)
                    if not delivery.over:  # else it was given back meanwhile, and is somebody else's
                        self._settle(delivery, ending)
            except BaseException:
                log.exception("event of %s: it comes again", delivery.queue.event)
            finally:
                self.hand.drop([delivery.message])
                with self._changed:
                    delivery.over = True
                    self._deliveries.remove(delivery)
                    self._free += 1
                    self._changed.notify_all()

    def _handle(self, delivery: Delivery) -> Ending:
        try:
            if delivery.message.receives > 1:
                delivery.tries = self._tries_of(delivery.message)
            if delivery.tries.is_poison:
                return Bury(POISON)
            with self._gate.through(suspect=delivery.tries.is_suspect):
                self.hand.begin([delivery.message])
                return self._run_handlers(delivery)
        except (InvalidEvent, Reject) as error:
            return Bury(words_of(error))
        except BaseException as error:  # before any handler ran
            return self._runs.failed(delivery, "", error)

    def _tries_of(self, message: Message) -> TriesOf:
        try:
            return self.tries.read(message.id)
        except RedisUnavailable as error:
            log.warning("%s; how often message %s was tried is not known", error, message.id)
            return NONE

    def _run_handlers(self, delivery: Delivery) -> Ending:
        queue, message = delivery.queue, delivery.message
        received = checked(queue, message)
        handlers = self.handlers[queue.event]
        later = received.deliver_at_ms > time.time() * 1000
        by_queue = [handler for handler in handlers if later or handler.through == "queue"]
        if by_queue and not self._accept(delivery, received, by_queue):
            return Again(0)
        if len(by_queue) == len(handlers):
            return HANDLED
        event = opened(received, queue.event)
        return self._runs.handle(delivery, received, event, [h for h in handlers if h not in by_queue])

    def _accept(self, delivery: Delivery, received: Envelope, handlers: Sequence[Handler]) -> bool:
        """Into Redis. While it is away the event stays in hand: to receive it again would count against it. False when
        the process stops meanwhile."""
        pause = 0.5
        while True:
            try:
                accept(self.store, delivery.queue, handlers, [(delivery.message, received)])
                return True
            except (RedisUnavailable, EncryptionError) as error:
                log.warning("%s; an event of %s waits in hand", error, delivery.queue.event)
                if self.stopping.wait(pause):
                    return False
                pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)

    # Its end ------------------------------------------------------------------------------------------------

    def _settle(self, delivery: Delivery, ending: Ending) -> None:
        message = delivery.message
        taken_for = time.monotonic() - delivery.taken_at
        match as_kept(ending, taken_for=taken_for, sent_ms=message.sent_ms, now_ms=time.time() * 1000):
            case Again(seconds):
                messages.change_visibility(self.aws, delivery.queue, [message], int(seconds))
            case Bury(reason):
                if self._burials.bury(delivery.queue, message, reason):
                    self._forget(delivery)
            case _:
                messages.delete(self.aws, delivery.queue, [message])
                self._forget(delivery)

    def _forget(self, delivery: Delivery) -> None:
        if delivery.counted or delivery.tries != NONE:
            self.tries.forget(delivery.message.id)
