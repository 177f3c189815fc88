"""Runs handlers straight from SQS, which keeps each event until all of its handlers succeeded.

1. Only as many messages are taken as there are free threads, so a stop finds hardly one that has not begun.
2. While a handler runs, its message stays hidden: visibility is extended in batches, up to some minutes before SQS's
   limit of 12 hours; then the handler is told to stop.
3. Success is recorded in Redis for each event and handler, so that one that SQS delivers twice is handled once, and a
   second handler that fails does not repeat the first. With Redis away handlers still run: at least once, then.
4. An error gives the message back after a pause; the last failure that is allowed, or too many receivers that died over
   it, sends it to the dead-letter queue, with its reason. Receives that ended otherwise count nothing.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import queue as queues
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from dramatiq.errors import Retry as RetryLater
from dramatiq.middleware import TimeLimitExceeded

from fourlane import codec
from fourlane.errors import Cancelled, InvalidEvent, RateLimited, RedisUnavailable, Reject, Snooze
from fourlane.events import messages
from fourlane.events.aws import BATCH, LONGEST_VISIBILITY_SECONDS, Aws
from fourlane.events.catalogue import Handler
from fourlane.events.envelope import Envelope, Event
from fourlane.events.hand import Gate, Hand
from fourlane.events.handlers import job_id, opened
from fourlane.events.messages import Message
from fourlane.events.mover import accept, checked
from fourlane.events.names import EventName, EventQueue
from fourlane.events.provision import RETENTION_SECONDS
from fourlane.events.receiver import VISIBILITY_SECONDS
from fourlane.events.tries import NONE, POISON, Tries, TriesOf
from fourlane.names import Queue
from fourlane.outcome import Dead, Done, Outcome, Postpone, Retry
from fourlane.queues.claims import Claim, Claims
from fourlane.queues.store import Store
from fourlane.queues.turn import Leased
from fourlane.retry import is_expected
from fourlane.tasks.callables import is_awaitable
from fourlane.tasks.context import CancelToken, CurrentJob, running
from fourlane.worker.run.observer import Observer
from fourlane.worker.run.run import Plan, Run

__all__ = ["Direct"]

log = logging.getLogger("fourlane.events")

MAX_FAILURES: Final = 5
_LAST_SECONDS: Final = LONGEST_VISIBILITY_SECONDS - 600
_FIRST_BACKOFF_SECONDS: Final = 2
_LONGEST_BACKOFF_SECONDS: Final = 900
_LONGEST_PAUSE_SECONDS: Final = 10.0
_LAST_HOUR_MS: Final = 3_600_000


class _Again(Exception):
    """The message shall come again, after some seconds; no error."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"again in {seconds:g} s")


class _Dead(Exception):
    """It can never be handled; the reason is the message's."""


class _Delivery:
    """A message that is being handled."""

    def __init__(self, queue: EventQueue, message: Message, worker: str) -> None:
        self.queue = queue
        self.message = message
        self.owner = f"{worker}-{id(self):x}"  # one process may be given the same event twice
        self.taken_at = time.monotonic()
        self.begun = False
        self.over = False
        self.told = False  # whether the handler was told that there is no more time
        self.token = CancelToken()
        self.claims: list[tuple[str, str]] = []
        self.tries = NONE
        self.counted = False  # whether something was counted since
        self.deadline = 0.0
        self._thread = 0
        self._interrupted: type[BaseException] | None = None
        self._awaiting: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._lock = threading.Lock()

    def arm(self, deadline: float) -> None:
        with self._lock:
            self._thread, self.deadline, self._interrupted = threading.get_ident(), deadline, None

    def disarm(self) -> None:
        with self._lock:
            if self._thread and self.deadline < 0:  # what was sent and has not arrived is taken back
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), None)
            self._thread = 0

    def await_(self, awaitable: Any) -> Any:
        """Await it in this thread; an interrupt cancels it, for no error reaches a thread that waits in a loop."""

        async def main() -> Any:
            task = asyncio.current_task()
            assert task is not None
            with self._lock:
                if self._interrupted is not None:
                    task.cancel()
                self._awaiting = (asyncio.get_running_loop(), task)
            try:
                return await awaitable
            finally:
                with self._lock:
                    self._awaiting = None

        try:
            return asyncio.run(main())
        except asyncio.CancelledError:
            if self._interrupted is None:
                raise
            raise self._interrupted from None

    def interrupt(self, kind: type[BaseException]) -> None:
        """Raise an error in the handler, once."""
        with self._lock:
            if self._thread and self.deadline >= 0:
                self.deadline = -1.0
                self._interrupted = kind
                if self._awaiting is not None:
                    loop, task = self._awaiting
                    loop.call_soon_threadsafe(task.cancel)
                    return
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(kind))


class _Service(NamedTuple):
    """In a Run's place for what a worker knows of a service."""

    name: str
    epoch: int = 0


class _HandlerRun(Run):
    """One run of one handler, for whoever watches jobs. It is no job: there is no lease to record anything under."""

    steps = None  # type: ignore[assignment]
    output = None  # type: ignore[assignment]

    def __init__(self, delivery: _Delivery, received: Envelope, plan: Plan, queue: Queue, stored: str) -> None:
        envelope = codec.Envelope(plan.name, options=received.job_options, enqueued_ms=received.time_ms)
        super().__init__(
            _Service(queue.service), Leased(stored, delivery.message.body.encode(), b"", 0), envelope, plan
        )
        self.attempt = 1 + delivery.tries.failures.get(plan.name, 0)
        name = delivery.queue.event.full(delivery.queue.environment)
        self._context = CurrentJob(
            self.id, plan.name, name, self.attempt, received.time_ms, self.tenant, delivery.token
        )


class Direct:
    """A Worker for receivers.

    Parameters:
      slots: handlers that run at once.
      timeout_ms: of handlers that say nothing else.
      max_failures: of one handler; then the event is a dead letter.
      hand: told of what is in hand.
      observer: told of each run, as of a job's.
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
        hand: Hand | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.aws = aws
        self.store = store
        self.handlers = handlers
        self.stopping = stopping
        self.name = name
        self.timeout_ms = timeout_ms
        self.visibility_seconds = visibility_seconds
        self.max_failures = max_failures
        self.claims = Claims(store)
        self.tries = Tries(store)
        self.hand = hand or Hand()
        self._gate = Gate()
        self.observer = observer
        self._observed = threading.Lock()
        self._plans = {h.name: Plan(h.task.broker, h.task) for several in handlers.values() for h in several}
        self._todo: queues.SimpleQueue[_Delivery] = queues.SimpleQueue()
        self._changed = threading.Condition()
        self._free = slots
        self._deliveries: list[_Delivery] = []
        for number in range(slots):
            threading.Thread(target=self._work, name=f"direct-{number}", daemon=True).start()
        threading.Thread(target=self._keep, name="direct-visibility", daemon=True).start()

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
        deliveries = [_Delivery(queue, message, self.name) for message in received]
        self.hand.take(queue, received)
        with self._changed:
            self._free -= len(deliveries)
            self._deliveries += deliveries
        for delivery in deliveries:
            self._todo.put(delivery)

    def stop(self, grace_seconds: float) -> None:
        """Give back what has not begun; let the rest run, tell it, then give it back too. Call it after stopping."""
        with self._changed:
            waiting = [d for d in self._deliveries if not d.begun]
            for delivery in waiting:
                delivery.over = True
        self._give_back(waiting)
        told_before = min(1.0, grace_seconds / 4)
        with self._changed:
            self._changed.wait_for(lambda: not self._running(), grace_seconds - told_before)
            for delivery in self._running():
                delivery.token.set("shutdown")
            self._changed.wait_for(lambda: not self._running(), told_before)
            left = self._running()
            for delivery in left:
                delivery.over = True
        for delivery in left:
            self._release(delivery)  # or who gets it next would wait for the claim to end
        self._give_back(left)

    def _running(self) -> list[_Delivery]:
        return [d for d in self._deliveries if d.begun and not d.over]

    def _give_back(self, deliveries: Sequence[_Delivery]) -> None:
        by_queue: dict[EventQueue, list[Message]] = defaultdict(list)
        for delivery in deliveries:
            by_queue[delivery.queue].append(delivery.message)
        for queue, several in by_queue.items():
            messages.change_visibility(self.aws, queue, several, 0)
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
                    self._handle(delivery)
            except BaseException:
                log.exception("event of %s: it comes again", delivery.queue.event)
            finally:
                self.hand.drop([delivery.message])
                with self._changed:
                    delivery.over = True
                    self._deliveries.remove(delivery)
                    self._free += 1
                    self._changed.notify_all()

    def _handle(self, delivery: _Delivery) -> None:
        error: BaseException | None = None
        try:
            if delivery.message.receives > 1:
                delivery.tries = self._tries_of(delivery.message)
            if delivery.tries.is_poison:
                raise _Dead(POISON)
            with self._gate.through(suspect=delivery.tries.is_suspect):
                self.hand.begin([delivery.message])
                self._run_handlers(delivery)
        except BaseException as raised:
            error = raised
        if delivery.over:  # it was given back meanwhile, and is somebody else's
            return
        if error is None:
            messages.delete(self.aws, delivery.queue, [delivery.message])
            self._forget(delivery)
        else:
            self._failed(delivery, error)

    def _tries_of(self, message: Message) -> TriesOf:
        try:
            return self.tries.read(message.id)
        except RedisUnavailable as error:
            log.warning("%s; how often message %s was tried is not known", error, message.id)
            return NONE

    def _forget(self, delivery: _Delivery) -> None:
        if delivery.counted or delivery.tries != NONE:
            self.tries.forget(delivery.message.id)

    def _run_handlers(self, delivery: _Delivery) -> None:
        queue, message = delivery.queue, delivery.message
        received = checked(queue, message)
        handlers = self.handlers[queue.event]
        later = received.deliver_at_ms > time.time() * 1000
        by_queue = [h for h in handlers if later or h.through == "queue"]
        if by_queue:
            self._accept(delivery, received, by_queue)
        if len(by_queue) < len(handlers):
            event = opened(received, queue.event)
            self._run_all(delivery, received, event, [h for h in handlers if h not in by_queue])

    def _accept(self, delivery: _Delivery, received: Envelope, handlers: Sequence[Handler]) -> None:
        """Into Redis. While it is away the event stays in hand: to receive it again would count against it."""
        pause = 0.5
        while True:
            try:
                return accept(self.store, delivery.queue, handlers, [(delivery.message, received)])
            except RedisUnavailable as error:
                log.warning("%s; an event of %s waits in hand", error, delivery.queue.event)
                if self.stopping.wait(pause):
                    raise _Again(0) from None
                pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)

    def _failed(self, delivery: _Delivery, error: BaseException) -> None:
        if isinstance(error, (_Dead, InvalidEvent, Reject)):
            self._bury(delivery, _words(error))
        elif isinstance(error, _Again):
            self._come_again(delivery, error.seconds)
        else:  # before any handler ran
            self._failed(delivery, self._judge(delivery, "", error))

    def _judge(self, delivery: _Delivery, handler: str, error: BaseException) -> _Again | _Dead:
        """What an error means for the event, as far as this handler goes. Failures are counted."""
        if isinstance(error, _Again):
            return error
        if isinstance(error, (Snooze, RateLimited)):
            return _Again(error.delay_ms / 1000)
        if isinstance(error, Cancelled) and delivery.token:
            return _Again(0)
        failures = 1 + delivery.tries.failures.get(handler, 0)
        words = _words(error)
        final = isinstance(error, (InvalidEvent, Reject))
        if not final:
            log.warning("failed event=%s times=%d: %s", delivery.queue.event, failures, words, exc_info=error)
            words = f"after {failures} failure(s): {words}"
        self.tries.failed(delivery.message.id, handler, words, self.max_failures, final=final)
        delivery.counted = True
        if final or failures >= self.max_failures:
            return _Dead(words)
        if isinstance(error, RetryLater) and error.delay:
            return _Again(error.delay / 1000)
        return _Again(_backoff(failures))

    def _bury(self, delivery: _Delivery, reason: str) -> None:
        if messages.bury(self.aws, delivery.queue, delivery.message, reason):
            self._forget(delivery)

    def _come_again(self, delivery: _Delivery, seconds: float) -> None:
        sent_ms = delivery.message.sent_ms
        if sent_ms and time.time() * 1000 + seconds * 1000 > sent_ms + RETENTION_SECONDS * 1000 - _LAST_HOUR_MS:
            self._bury(delivery, "its queue keeps it no longer, and it is not handled yet")
            return
        most = LONGEST_VISIBILITY_SECONDS - 1 - (time.monotonic() - delivery.taken_at)  # SQS counts from the receive
        messages.change_visibility(self.aws, delivery.queue, [delivery.message], round(min(seconds, most)))

    def _run_all(self, delivery: _Delivery, received: Envelope, event: Event, handlers: Sequence[Handler]) -> None:
        """Run each handler that has not ended before. One's failure does not keep the others from it."""
        verdicts: list[_Again | _Dead] = []
        for handler in handlers:
            if delivery.tries.failures.get(handler.name, 0) >= self.max_failures:
                verdicts.append(_Dead(delivery.tries.reasons.get(handler.name, "its handler failed")))
                continue
            try:
                self._run_once(delivery, received, event, handler)
            except BaseException as error:  # a time limit is no Exception
                verdicts.append(self._judge(delivery, handler.name, error))
            if delivery.token:
                break
        pauses = [verdict for verdict in verdicts if isinstance(verdict, _Again)]
        if pauses:  # what has ended otherwise is told when the others have ended too
            raise min(pauses, key=lambda again: again.seconds)
        if verdicts:
            raise verdicts[0]

    def _run_once(self, delivery: _Delivery, received: Envelope, event: Event, handler: Handler) -> None:
        service, stored = handler.task.service, job_id(received, handler, delivery.message.again)
        try:
            # Noted before it is made, so that whoever finds it after a death gives the claim up too.
            self.hand.claim(delivery.message, delivery.owner, [*delivery.claims, (service, stored)])
            claim = self.claims.claim(service, stored, delivery.owner, self.visibility_seconds * 1000)
            if claim is Claim.DONE:
                return
            if claim is Claim.OTHERS:
                raise _Again(self.visibility_seconds / 2)  # the same event came twice, and runs elsewhere
            delivery.claims.append((service, stored))
        except RedisUnavailable as error:
            log.warning("%s; %s runs without its record", error, handler.name)
        try:
            plan = self._plans[handler.name]
            self._run(delivery, event, handler, _HandlerRun(delivery, received, plan, handler.task.queue, stored))
        except BaseException:
            self._release(delivery)
            raise
        self._record(delivery, handler, stored)

    def _record(self, delivery: _Delivery, handler: Handler, stored: str) -> None:
        delivery.claims.clear()
        try:
            self.claims.done(handler.task.service, stored, delivery.owner)
        except RedisUnavailable as error:
            log.warning("%s; that %s ran is not recorded", error, handler.name)

    def _run(self, delivery: _Delivery, event: Event, handler: Handler, run: _HandlerRun) -> None:
        timeout_ms = handler.task.options.get("time_limit") or self.timeout_ms
        before = running.set(run)
        error: BaseException | None = None
        if self.observer is not None and self.observer.begins:
            self.observer.began(run)
        run.started = time.monotonic()
        delivery.arm(run.started + timeout_ms / 1000)
        try:
            result = handler.task.original(event)
            while is_awaitable(result):
                result = delivery.await_(result)
        except BaseException as raised:
            error = raised
            raise
        finally:
            delivery.disarm()
            self._tell(delivery, run, error)
            running.reset(before)
            run.let_go()
            error = None  # its traceback holds this frame

    def _tell(self, delivery: _Delivery, run: _HandlerRun, error: BaseException | None) -> None:
        run.ended_at = time.monotonic()
        if self.observer is None:
            return
        run._exception = error
        outcome = self._outcome(delivery, run, error)
        if error is not None:
            run.expected = is_expected(error, run.plan.throws)
            self.observer.failed(run, error, outcome)
        with self._observed:  # elsewhere one thread calls it
            self.observer.turned(run.service.name, [(run, outcome)])

    def _outcome(self, delivery: _Delivery, run: _HandlerRun, error: BaseException | None) -> Outcome:
        """What a job that ended so would be."""
        if error is None:
            return Done()
        if isinstance(error, (Snooze, RateLimited)) or (isinstance(error, Cancelled) and delivery.token):
            return Postpone(0)
        if isinstance(error, (InvalidEvent, Reject)):
            return Dead("rejected", _words(error), b"")
        last = run.attempt >= self.max_failures
        return Dead("error", _words(error), b"") if last else Retry(0, b"", _words(error))

    def _release(self, delivery: _Delivery) -> None:
        while delivery.claims:
            service, stored = delivery.claims.pop()
            try:
                self.claims.release(service, stored, delivery.owner)
            except RedisUnavailable:
                pass  # it ends by itself

    # Visibility and time ------------------------------------------------------------------------------------

    def _keep(self) -> None:
        every = self.visibility_seconds / 3
        extended_at = time.monotonic()
        while True:
            time.sleep(min(0.1, every))
            now = time.monotonic()
            with self._changed:
                present = [d for d in self._deliveries if not d.over]
            try:
                for delivery in present:
                    self._watch(delivery, now)
                if now - extended_at >= every:
                    extended_at = now
                    self._extend([d for d in present if not d.told])
            except Exception:
                log.exception("visibility could not be extended")

    def _watch(self, delivery: _Delivery, now: float) -> None:
        if 0 < delivery.deadline <= now:
            delivery.interrupt(TimeLimitExceeded)
        if not delivery.told and now - delivery.taken_at >= _LAST_SECONDS:
            log.error("event of %s: its handler runs for %d s, told to stop", delivery.queue.event, _LAST_SECONDS)
            delivery.told = True
            delivery.token.set("time")
            delivery.interrupt(Cancelled)

    def _extend(self, deliveries: Sequence[_Delivery]) -> None:
        by_queue: dict[EventQueue, list[Message]] = defaultdict(list)
        for delivery in deliveries:
            by_queue[delivery.queue].append(delivery.message)
        for queue, several in by_queue.items():
            messages.change_visibility(self.aws, queue, several, self.visibility_seconds)
        for delivery in deliveries:
            for service, stored in list(delivery.claims):
                try:
                    self.claims.claim(service, stored, delivery.owner, self.visibility_seconds * 1000)
                except RedisUnavailable:
                    return


def _backoff(times: int) -> int:
    return int(min(_LONGEST_BACKOFF_SECONDS, _FIRST_BACKOFF_SECONDS * 2 ** min(times, 10)))


def _words(error: BaseException) -> str:
    plain = isinstance(error, (_Dead, InvalidEvent, Reject)) and str(error)
    return plain or f"{type(error).__name__}: {error}"
