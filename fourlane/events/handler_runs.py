"""Runs the handlers of one event straight from SQS: each once, under a claim in Redis, as far as Redis is there."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fourlane import codec
from fourlane.errors import InvalidEvent, RedisUnavailable, Reject
from fourlane.events.catalogue import Handler
from fourlane.events.delivery import Delivery
from fourlane.events.endings import HANDLED, Again, Bury, Ending, judge, together
from fourlane.events.envelope import Envelope, Event
from fourlane.events.hand import Hand
from fourlane.events.handlers import job_id
from fourlane.events.names import EventName
from fourlane.events.tries import Tries
from fourlane.names import Queue
from fourlane.outcome import Dead, Done, Outcome, Postpone, Retry
from fourlane.queues.claims import Claim, Claims
from fourlane.queues.store import Store
from fourlane.queues.turn import Leased
from fourlane.queues.words import words_of as kept_words_of
from fourlane.reasons import REJECTED
from fourlane.redact import without_secrets
from fourlane.retry import Backoff, is_expected
from fourlane.tasks.callables import is_awaitable
from fourlane.tasks.context import CurrentJob, running
from fourlane.telling import Ends, tell
from fourlane.worker.run.decide import Verdict
from fourlane.worker.run.plan import Plan
from fourlane.worker.run.run import Run

__all__ = ["HandlerRuns", "words_of"]

log = logging.getLogger("fourlane.events")


class _Service(NamedTuple):
    """In a Run's place for what a worker knows of a service."""

    name: str
    epoch: int = 0


class _HandlerRun(Run):
    """One run of one handler, for whoever watches jobs. It is no job: there is no lease to record anything under."""

    steps = None  # type: ignore[assignment]
    output = None  # type: ignore[assignment]

    def __init__(self, delivery: Delivery, received: Envelope, plan: Plan, queue: Queue, stored: str) -> None:
        envelope = codec.Envelope(plan.name, options=received.job_options, enqueued_ms=max(0, received.time_ms))
        leased = Leased(stored, delivery.message.body.encode(), b"", 0)
        super().__init__(_Service(queue.service), leased, envelope, plan)
        self.attempt = 1 + delivery.tries.failures.get(plan.name, 0)
        name = delivery.queue.event.full(delivery.queue.environment)
        self._context = CurrentJob(
            self.id, plan.name, name, self.attempt, received.time_ms, self.tenant, delivery.token
        )


class HandlerRuns:
    """Handlers of one process. Several threads may handle at once."""

    def __init__(
        self,
        store: Store,
        handlers: Mapping[EventName, Sequence[Handler]],
        hand: Hand,
        tries: Tries,
        *,
        timeout_ms: int,
        claim_seconds: int,
        max_failures: int,
        backoff: Backoff,
    ) -> None:
        self._claims = Claims(store)
        self._hand = hand
        self._tries = tries
        self._timeout_ms = timeout_ms
        self._claim_seconds = claim_seconds
        self._max_failures = max_failures
        self._backoff = backoff
        self._telling = threading.Lock()
        self._plans = {h.name: Plan(h.task.broker, h.task) for several in handlers.values() for h in several}

    def handle(self, delivery: Delivery, received: Envelope, event: Event, handlers: Sequence[Handler]) -> Ending:
        """Run each handler that has not ended before. One's failure does not keep the others from it."""
        endings: list[Ending] = []
        for handler in handlers:
            if delivery.tries.failures.get(handler.name, 0) >= self._max_failures:
                endings.append(Bury(delivery.tries.reasons.get(handler.name, "its handler failed")))
                continue
            try:
                endings.append(self._handle_once(delivery, received, event, handler))
            except BaseException as error:  # a time limit is no Exception
                endings.append(self.failed(delivery, handler.name, error))
            if delivery.token:
                break
        return together(endings)

    def _handle_once(self, delivery: Delivery, received: Envelope, event: Event, handler: Handler) -> Ending:
        service, stored = handler.task.service, job_id(received, handler, delivery.message.again)
        try:
            match self._claim(delivery, service, stored):
                case Claim.DONE:
                    return HANDLED
                case Claim.OTHERS:
                    return Again(self._claim_seconds / 2)  # the same event came twice, and runs elsewhere
        except RedisUnavailable as error:
            log.warning("%s; %s runs without its record", error, handler.name)
        try:
            plan = self._plans[handler.name]
            self._run(delivery, event, handler, _HandlerRun(delivery, received, plan, handler.task.queue, stored))
        except BaseException:
            self.release(delivery)
            raise
        self._record(delivery, handler, stored)
        return HANDLED

    def failed(self, delivery: Delivery, handler: str, error: BaseException) -> Ending:
        """What an error means for the event, as far as this handler goes; "": none had begun. Failures are counted."""
        failures = delivery.tries.failures.get(handler, 0)
        verdict = self._judge(delivery, failures, error)
        if verdict.action in ("postpone", "back"):
            return Again(verdict.delay_ms / 1000)
        plan = self._plans.get(handler)
        words = kept_words_of(error, unsaid=True) if plan is not None and plan.encrypt else words_of(error)
        final = verdict.reason == REJECTED
        if not final:
            log.warning(
                "failed event=%s times=%d: %s", delivery.queue.event, failures + 1, words_of(error), exc_info=error
            )
            words = f"after {failures + 1} failure(s): {words}"
        self._tries.failed(delivery.message.id, handler, words, self._max_failures, final=final)
        delivery.counted = True
        return Bury(words) if verdict.action == "dead" else Again(verdict.delay_ms / 1000)

    def _judge(self, delivery: Delivery, failures: int, error: BaseException | None) -> Verdict:
        return judge(error, failures, delivery.token.reason, self._max_failures, self._backoff)

    # A run --------------------------------------------------------------------------------------------------

    def _run(self, delivery: Delivery, event: Event, handler: Handler, run: _HandlerRun) -> None:
        timeout_ms = handler.task.options.get("time_limit") or self._timeout_ms
        before = running.set(run)
        error: BaseException | None = None
        tell.began(run)
        run.started = time.monotonic()
        delivery.handler.arm(run.started + timeout_ms / 1000)
        try:
            result = handler.task.original(event)
            while is_awaitable(result):
                result = delivery.handler.wait_for(result)
        except BaseException as raised:
            error = raised
            raise
        finally:
            delivery.handler.disarm()
            run.ended_at = time.monotonic()
            self._tell(delivery, run, error)
            running.reset(before)
            run.let_go()
            error = None  # its traceback holds this frame

    def _tell(self, delivery: Delivery, run: _HandlerRun, error: BaseException | None) -> None:
        run.error = error
        outcome = _as_outcome(self._judge(delivery, run.attempt - 1, error), error)
        if error is not None:
            run.expected = is_expected(error, run.plan.throws)
            tell.failed(run, error, outcome)
        with self._telling:  # elsewhere one thread tells it
            tell.turned(Ends(run.service.name, [(run, outcome)]))

    # Claims -------------------------------------------------------------------------------------------------

    def _claim(self, delivery: Delivery, service: str, stored: str) -> Claim:
        """Raises RedisUnavailable."""
        # Noted before it is made, so that whoever finds it after a death gives the claim up too.
        self._hand.claim(delivery.message, delivery.owner, [*delivery.claims, (service, stored)])
        claimed = self._claims.claim(service, stored, delivery.owner, self._claim_seconds * 1000)
        if claimed not in (Claim.DONE, Claim.OTHERS):
            delivery.claims.append((service, stored))
        return claimed

    def release(self, delivery: Delivery) -> None:
        """Who gets the event next need not wait for its claims to end."""
        while delivery.claims:
            service, stored = delivery.claims.pop()
            try:
                self._claims.release(service, stored, delivery.owner)
            except RedisUnavailable:
                pass  # it ends by itself

    def _record(self, delivery: Delivery, handler: Handler, stored: str) -> None:
        delivery.claims.clear()
        try:
            self._claims.done(handler.task.service, stored, delivery.owner)
        except RedisUnavailable as error:
            log.warning("%s; that %s ran is not recorded", error, handler.name)


def _as_outcome(verdict: Verdict, error: BaseException | None) -> Outcome:
    """What a job that ended so would be."""
    words = words_of(error) if error is not None else ""
    match verdict.action:
        case "done":
            return Done()
        case "dead":
            return Dead(verdict.reason, words, b"")
        case "retry":
            return Retry(0, b"", words)
    return Postpone(0)


def words_of(error: BaseException) -> str:
    """Its type and what it says; that alone where it says why the event can never be handled."""
    plain = isinstance(error, (InvalidEvent, Reject)) and str(error)
    return without_secrets(plain) if plain else kept_words_of(error)
