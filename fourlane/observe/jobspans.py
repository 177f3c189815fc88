"""The spans of jobs. Nothing is done for a job while it runs, unless something in it wants a span. Then, or at the
job's end when it is to be kept, its span comes into being; its ids follow from the job's (ids.py), so children may
come before it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from fourlane.names import Queue, Tier
from fourlane.observe import ids
from fourlane.observe.tail import Share, Tail, TailProcessor, as_sampled, context_of
from fourlane.outcome import Back, Cancel, Dead, Done, Outcome, Postpone, Result, Retry
from fourlane.tasks.context import running
from fourlane.telling import Ends, Observer, tell
from fourlane.telling.observer import SLOW_SECONDS

__all__ = ["JobContext", "Spans", "span_of"]

_MOST_A_SECOND: Final = 20  # ordinary traces of jobs that made no span of their own, in one process
_MOST_EVENTS: Final = 100
_STACK_CHARACTERS: Final = 8_000
_CLOSE_SECONDS: Final = 2.0
_ERRORS: Final = frozenset((Retry, Dead))
_GOOD: Final = frozenset((Done, Result))
_UNSEEN: Final = frozenset((Back, Postpone, Cancel))
[_SPAN_KEY] = trace.set_span_in_context(trace.INVALID_SPAN, Context())


class JobSpan(trace.NonRecordingSpan):
    """A job's span while it runs: takes what is said of it; it is made whole at the job's end."""

    def __init__(self, run: Any, share: Share) -> None:
        options = run.envelope.options
        job_id = run.id
        self.parent = ids.parent_of(options)
        trace_id = ids.trace_id_of(job_id, options)
        sampled = self.parent.sampled if self.parent else share.has(trace_id)
        span_id = ids.span_id_of(job_id, run.attempt, run.leased.crashes)
        super().__init__(SpanContext(trace_id, span_id, False, TraceFlags(int(sampled))))
        self.attributes: dict[str, Any] = {}
        self.events: list[Event] = []
        self.tail = Tail(span_id)
        self.in_context = trace.set_span_in_context(self, Context())

    def is_recording(self) -> bool:
        return True

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self.attributes.update(attributes)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        if len(self.events) < _MOST_EVENTS:
            self.events.append(Event(name, attributes, timestamp or time.time_ns()))

    def record_exception(
        self, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
    ) -> None:
        self.add_event("exception", _described(exception) | dict(attributes or {}), timestamp)


class JobContext(ContextVarsRuntimeContext):
    """OpenTelemetry's context, in which a running job is a span as soon as somebody looks."""

    share: Share

    def get_current(self) -> Context:
        context = super().get_current()
        run: Any = running.get()
        if run is None or run.ended_at or _SPAN_KEY in context:
            return context
        span = span_of(run, self.share)
        return Context({**span.in_context, **context}) if context else span.in_context


def span_of(run: Any, share: Share) -> JobSpan:
    if run.trace is None:
        made = JobSpan(run, share)
        run.__dict__.setdefault("trace", made)  # two threads may come at once
    span: JobSpan = run.trace
    return span


def _described(error: BaseException) -> dict[str, Any]:
    text = "".join(traceback.format_exception(error))
    return {
        "exception.type": f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins."),
        "exception.message": str(error)[:1_000],
        "exception.stacktrace": text[-_STACK_CHARACTERS:],
    }


class Spans(Observer):
    """Makes the spans of jobs when a turn has settled them."""

    def __init__(self, provider: TracerProvider, processor: TailProcessor, environment: str) -> None:
        self.provider = provider
        self.processor = processor
        self.share = processor.share
        self.environment = environment
        self._due = 0.0
        self._tokens = float(_MOST_A_SECOND)
        self._filled_at = time.monotonic()

    def turned(self, ends: Ends) -> None:
        service = ends.service
        ordinary = len(ends.runs) - len(ends.special)
        for run, outcome in ends.special:
            if type(outcome) in _UNSEEN or not run.started:
                continue
            if type(outcome) in _ERRORS or run.trace is not None or run.ended_at - run.started > SLOW_SECONDS:
                self._make(service, run, outcome)
                continue
            parent = ids.parent_of(run.envelope.options)
            if parent is None:
                ordinary += 1
            elif parent.sampled:
                self._make(service, run, outcome)
        if ordinary:
            self._some(service, ends.runs, ordinary)

    def _some(self, service: str, runs: Sequence[tuple[Any, Outcome]], ordinary: int) -> None:
        """A share of the runs that nobody looked into while they ran, up to so many a second."""
        self._due += ordinary * self.share.percent / 100
        take = int(self._due)
        self._due -= take
        now = time.monotonic()
        self._tokens = min(float(_MOST_A_SECOND), self._tokens + (now - self._filled_at) * _MOST_A_SECOND)
        self._filled_at = now
        take = min(take, int(self._tokens))
        if take <= 0:
            return
        self._tokens -= take
        for run, outcome in runs[:: max(1, len(runs) // take)][:take]:
            if type(outcome) in _GOOD and run.trace is None and ids.parent_of(run.envelope.options) is None:
                self._make(service, run, outcome, chosen=True)

    def _make(self, service: str, run: Any, outcome: Outcome, chosen: bool = False) -> None:
        span = span_of(run, self.share)
        context = context_of(span)
        if chosen:
            context = as_sampled(context)
        error = run.error
        failed = type(outcome) in _ERRORS
        start_ns = time.time_ns() - int((time.monotonic() - run.started) * 1e9)
        end_ns = start_ns + int((run.ended_at - run.started) * 1e9)
        if failed and error is not None:
            span.add_event("exception", _described(error), end_ns)
        detail = outcome.error if isinstance(outcome, Retry) else outcome.detail if isinstance(outcome, Dead) else ""
        parent = None
        if span.parent is not None:
            flags = TraceFlags(int(span.parent.sampled))
            parent = SpanContext(span.parent.trace_id, span.parent.span_id, True, flags)
        whole = ReadableSpan(
            name=f"process {self._queue(service, run)}",
            context=context,
            parent=parent,
            resource=self.provider.resource,
            attributes=self._attributes(service, run, outcome) | span.attributes,
            events=span.events,
            links=_links(run, context),
            kind=SpanKind.CONSUMER,
            status=Status(StatusCode.ERROR, detail) if failed else Status(StatusCode.OK),
            start_time=start_ns,
            end_time=end_ns,
        )
        self.processor.ended(span.tail, whole, failed)
        if span.tail.decision and run.plan.name:
            labels = (run.plan.name, Tier(int(run.leased.entry[0])).word, service)
            seconds = run.ended_at - run.started
            tell.exemplar("job_run_seconds", labels, f"{context.trace_id:032x}", seconds)

    def _queue(self, service: str, run: Any) -> str:
        return Queue(service, Tier(int(run.leased.entry[0]))).name(self.environment)

    def _attributes(self, service: str, run: Any, outcome: Outcome) -> dict[str, Any]:
        options = run.envelope.options
        found = {
            "messaging.system": "fourlane",
            "messaging.operation.type": "process",
            "messaging.operation.name": "process",
            "messaging.destination.name": self._queue(service, run),
            "messaging.message.id": run.id,
            "messaging.message.body.size": len(run.leased.body),
            "service": service,
            "operation": run.plan.name,
            "fourlane.attempt": run.attempt,
            "fourlane.outcome": type(outcome).__name__.lower(),
        }
        if run.error is not None:
            found["error.type"] = type(run.error).__name__
        for option, attribute in (("tenant", "organization_id"), ("user_id", "user_id")):
            if options.get(option):
                found[attribute] = str(options[option])
        return found

    def closing(self) -> None:
        """Send what waits, in no more than two seconds."""
        self.processor.queue.flush(_CLOSE_SECONDS)


def _links(run: Any, context: SpanContext) -> list[Link]:
    """To the attempt before this one."""
    if run.attempt < 2:
        return []
    before = ids.span_id_of(run.id, run.attempt - 1)
    flags = TraceFlags(TraceFlags.SAMPLED)  # it failed, so it was kept
    return [Link(SpanContext(context.trace_id, before, True, flags), {"fourlane.attempt": run.attempt - 1})]
