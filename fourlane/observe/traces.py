"""Traces over OTLP: one from the publisher through the queue to the job and what it calls.

Nothing is done for a job while it runs, unless something in it wants a span. Then, or at the job's end when it is to
be kept, its span comes into being; its ids follow from the job's (ids.py), so children may come before it.

What is kept is decided at the end: every trace with an error or over 5 s, and a share of the others; of health checks
a hundredth. Until then at most so many spans of a trace are held. Kept spans go through a bounded queue to a thread of
OpenTelemetry's; a collector that does not take them costs the spans, never a job.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

import opentelemetry.context
from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fourlane.meter import Exemplar, meter
from fourlane.names import Queue, Tier
from fourlane.observe import ids
from fourlane.observe.logs import AtMostOnce
from fourlane.observe.observer import SLOW_SECONDS
from fourlane.observe.redact import redact_text
from fourlane.outcome import Back, Cancel, Dead, Done, Outcome, Postpone, Retry
from fourlane.queues import carry
from fourlane.tasks.context import running

if TYPE_CHECKING:
    from fourlane.observe.begin import Observe

__all__ = ["Spans", "annotate", "begin"]

log = logging.getLogger("fourlane.observe")

_SLOW_NS: Final = int(SLOW_SECONDS * 1e9)
_HEALTH_PERCENT: Final = 1
_HEALTH_PATHS: Final = ("/health", "/live", "/ready", "/metrics")
_MOST_SPANS: Final = 1_000  # of one trace, held until it ends
_MOST_A_SECOND: Final = 20  # ordinary traces of jobs that made no span of their own, in one process
_QUEUE_SPANS: Final = 4_096
_EXPORT_SECONDS: Final = 5
_CLOSE_SECONDS: Final = 2.0
_WARN_SECONDS: Final = 60.0
_NOT_INSTRUMENTED: Final = frozenset({"redis", "celery", "threading"})  # the worker's own calls would drown the jobs'
_IDS: Final = 1 << 64
_MOST_OPEN: Final = 10_000
_MOST_EVENTS: Final = 100
_STACK_CHARACTERS: Final = 8_000
_ERRORS: Final = frozenset((Retry, Dead))
_UNSEEN: Final = frozenset((Back, Postpone, Cancel))
[_SPAN_KEY] = trace.set_span_in_context(trace.INVALID_SPAN, Context())

_propagator = TraceContextTextMapPropagator()


# What is kept -----------------------------------------------------------------------------------------------


class Tail:
    """The spans of one trace in this process, from its first to its last, and whether they are kept."""

    __slots__ = ("decision", "error", "lock", "root", "slow", "spans")

    def __init__(self, root: int) -> None:
        self.root = root  # the span whose end decides
        self.lock = threading.Lock()
        self.spans: list[ReadableSpan] = []
        self.error = self.slow = False
        self.decision: bool | None = None


class _Sampler(Sampler):
    """Records everything, for the end decides. What goes to others says "sampled" for the share that is kept anyway."""

    def __init__(self, percent: float) -> None:
        self.percent = percent

    def by_chance(self, trace_id: int, percent: float | None = None) -> bool:
        share = self.percent if percent is None else percent
        return (trace_id % _IDS) * 100 < share * _IDS

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        parent = trace.get_current_span(parent_context).get_span_context()
        sampled = parent.trace_flags.sampled if parent.is_valid else self.by_chance(trace_id)
        decision = Decision.RECORD_AND_SAMPLE if sampled else Decision.RECORD_ONLY
        return SamplingResult(decision, attributes, parent.trace_state if parent.is_valid else None)

    def get_description(self) -> str:
        return f"fourlane: errors, over 5 s, {self.percent:g} % of the others"


class _TailProcessor(SpanProcessor):
    """Holds the spans of each trace until its first span of this process ends, then keeps or drops them all."""

    def __init__(self, sampler: _Sampler, batches: BatchSpanProcessor) -> None:
        self.sampler = sampler
        self.batches = batches
        self._open: dict[int, Tail] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        parent = trace.get_current_span(parent_context)
        span_id = _context_of(span).span_id
        tail: Tail = getattr(parent, "tail", None) or Tail(span_id)
        span.tail = tail  # type: ignore[attr-defined] # for its children
        self._open[span_id] = tail
        if len(self._open) > _MOST_OPEN:  # spans that nobody ends
            self._open.pop(next(iter(self._open)), None)

    def on_end(self, span: ReadableSpan) -> None:
        context = _context_of(span)
        tail = self._open.pop(context.span_id, None)
        if tail is not None:
            self.ended(tail, span)

    def ended(self, tail: Tail, span: ReadableSpan, error: bool = False) -> None:
        """One span more of a trace; when it is the first one of this process, the trace is decided."""
        context = _context_of(span)
        with tail.lock:
            decided = tail.decision
            if decided is None:
                tail.error = tail.error or error or span.status.status_code is StatusCode.ERROR
                tail.slow = tail.slow or (span.end_time or 0) - (span.start_time or 0) > _SLOW_NS
                if len(tail.spans) < _MOST_SPANS or context.span_id == tail.root:
                    tail.spans.append(span)
                if context.span_id != tail.root:
                    return
                tail.decision = tail.error or tail.slow or self._by_chance(span)
                decided, spans, tail.spans = tail.decision, tail.spans, []
            else:
                spans = [span]
        if decided:
            for kept in spans:
                self.batches.on_end(_dressed(kept))

    def _by_chance(self, root: ReadableSpan) -> bool:
        context = _context_of(root)
        attributes = root.attributes or {}
        path = attributes.get("url.path") or attributes.get("http.target")
        if isinstance(path, str) and path.startswith(_HEALTH_PATHS):
            return self.sampler.by_chance(context.trace_id, min(self.sampler.percent, _HEALTH_PERCENT))
        return context.trace_flags.sampled

    def shutdown(self) -> None:
        self.batches.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.batches.force_flush(timeout_millis)


def _context_of(span: Any) -> SpanContext:
    context: SpanContext = span.get_span_context()
    return context


def _dressed(span: ReadableSpan) -> ReadableSpan:
    """A kept span, with the platform's attributes, and marked as sampled: the queue takes no other."""
    attributes = {key: redact_text(v) if isinstance(v, str) else v for key, v in (span.attributes or {}).items()}
    failed = span.status.status_code is StatusCode.ERROR
    attributes["duration_ms"] = round(((span.end_time or 0) - (span.start_time or 0)) / 1e6, 3)
    attributes["status"] = "error" if failed else "ok"
    attributes.setdefault("operation", span.name)
    attributes.setdefault("service", str(span.resource.attributes.get("service.name", "")))
    status = span.status
    if failed and status.description:
        attributes["error_message"] = redact_text(status.description)
        status = Status(StatusCode.ERROR, redact_text(status.description))
    return ReadableSpan(
        name=span.name,
        context=_as_sampled(_context_of(span)),
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=[_redacted(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _as_sampled(context: SpanContext) -> SpanContext:
    flags = TraceFlags(context.trace_flags | TraceFlags.SAMPLED)
    return SpanContext(context.trace_id, context.span_id, False, flags, context.trace_state)


def _redacted(event: Event) -> Event:
    given = event.attributes or {}
    attributes = {key: redact_text(v) if isinstance(v, str) else v for key, v in given.items()}
    return Event(event.name, attributes, event.timestamp)


# Jobs -------------------------------------------------------------------------------------------------------


class JobSpan(trace.NonRecordingSpan):
    """A job's span while it runs: takes what is said of it; it is made whole at the job's end."""

    def __init__(self, run: Any, sampler: _Sampler) -> None:
        options = run.envelope.options
        job_id = run.id
        self.parent = ids.parent_of(options)
        trace_id = ids.trace_id_of(job_id, options)
        sampled = self.parent.sampled if self.parent else sampler.by_chance(trace_id)
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


class _JobContext(ContextVarsRuntimeContext):
    """OpenTelemetry's context, in which a running job is a span as soon as somebody looks."""

    sampler: _Sampler

    def get_current(self) -> Context:
        context = super().get_current()
        run: Any = running.get()
        if run is None or run.ended_at or _SPAN_KEY in context:
            return context
        span = span_of(run, self.sampler)
        return Context({**span.in_context, **context}) if context else span.in_context


def span_of(run: Any, sampler: _Sampler) -> JobSpan:
    if run.trace is None:
        made = JobSpan(run, sampler)
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


class Spans:
    """Makes the spans of jobs when a turn has settled them."""

    def __init__(self, provider: TracerProvider, processor: _TailProcessor, environment: str) -> None:
        self.provider = provider
        self.processor = processor
        self.sampler = processor.sampler
        self.environment = environment
        self._share = 0.0
        self._tokens = float(_MOST_A_SECOND)
        self._filled_at = time.monotonic()

    def ended(self, service: str, special: list[tuple[Any, Outcome]], ended: list[tuple[Any, Outcome]]) -> None:
        """Runs of one service that ended, with their outcomes; the special ones may have something to say."""
        for run, outcome in special:
            if type(outcome) not in _UNSEEN and run.started:
                self._make(service, run, outcome)
        plain = len(ended) - len(special)
        if plain:
            self._some(service, ended, plain)

    def _some(self, service: str, ended: list[tuple[Any, Outcome]], plain: int) -> None:
        """A share of the runs that nobody looked into while they ran, up to so many a second."""
        self._share += plain * self.sampler.percent / 100
        take = int(self._share)
        self._share -= take
        now = time.monotonic()
        self._tokens = min(float(_MOST_A_SECOND), self._tokens + (now - self._filled_at) * _MOST_A_SECOND)
        self._filled_at = now
        take = min(take, int(self._tokens))
        if take <= 0:
            return
        self._tokens -= take
        for run, outcome in ended[:: max(1, len(ended) // take)][:take]:
            if type(outcome) is Done and run.trace is None and not run.envelope.options:
                self._make(service, run, outcome, chosen=True)

    def _make(self, service: str, run: Any, outcome: Outcome, chosen: bool = False) -> None:
        span = span_of(run, self.sampler)
        context = _context_of(span)
        if chosen:
            context = _as_sampled(context)
        error = run._exception
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
            if meter.on:
                meter.exemplar("job_run_seconds", labels, Exemplar(f"{context.trace_id:032x}", seconds, time.time()))

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
        if run._exception is not None:
            found["error.type"] = type(run._exception).__name__
        for option, attribute in (("tenant", "organization_id"), ("user_id", "user_id")):
            if options.get(option):
                found[attribute] = str(options[option])
        return found

    def close(self) -> None:
        """Send what waits, in no more than two seconds."""
        thread = threading.Thread(target=self.processor.force_flush, name="fourlane-flush", daemon=True)
        thread.start()
        thread.join(_CLOSE_SECONDS)


def _links(run: Any, context: SpanContext) -> list[Link]:
    """To the attempt before this one."""
    if run.attempt < 2:
        return []
    before = ids.span_id_of(run.id, run.attempt - 1)
    flags = TraceFlags(TraceFlags.SAMPLED)  # it failed, so it was kept
    return [Link(SpanContext(context.trace_id, before, True, flags), {"fourlane.attempt": run.attempt - 1})]


# Begin ------------------------------------------------------------------------------------------------------


def begin(observe: Observe) -> Spans:
    """Make OpenTelemetry's global provider ours, and instrument the libraries that are here."""
    sampler = _Sampler(observe.trace_percent)
    resource = Resource.create({"service.name": observe.service, "deployment.environment.name": observe.environment})
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    for name in ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they complain at each try; _Exporter says it once
    endpoint = observe.otlp_endpoint.rstrip("/") + "/v1/traces"
    exporter = _Exporter(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_SECONDS), observe.otlp_endpoint)
    batches = BatchSpanProcessor(exporter, max_queue_size=_QUEUE_SPANS, schedule_delay_millis=1_000)
    processor = _TailProcessor(sampler, batches)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    context = _JobContext()
    context.sampler = sampler
    # There is an entry point for this, read when OpenTelemetry is first imported: too early for a setting.
    opentelemetry.context._RUNTIME_CONTEXT = context
    spans = Spans(provider, processor, observe.environment)
    carry.sending = _Sending(provider.get_tracer("fourlane")).sending
    _instrument()
    atexit.register(spans.close)
    return spans


def annotate(**attributes: str | int | float | bool) -> None:
    """Say something of what runs now, in the platform's words: ``user_id``, ``organization_id``, ``ai_cost_usd``…

    The span of the running job takes it, or outside a job the current span.
    """
    run: Any = running.get()
    context = opentelemetry.context._RUNTIME_CONTEXT
    if run is not None and not run.ended_at and isinstance(context, _JobContext):
        span_of(run, context.sampler).set_attributes(attributes)
    else:
        trace.get_current_span().set_attributes(attributes)


class _Sending:
    """A span around an enqueue, where there is one to be its parent; the message carries it."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self.tracer = tracer

    @contextmanager
    def sending(self, queue: str, task: str, number: int) -> Iterator[Mapping[str, str]]:
        if not trace.get_current_span().get_span_context().is_valid:
            yield {}
            return
        attributes: dict[str, Any] = {
            "messaging.system": "fourlane",
            "messaging.operation.type": "send",
            "messaging.operation.name": "send",
            "messaging.destination.name": queue,
            "operation": task,
        }
        if number > 1:
            attributes["messaging.batch.message_count"] = number
        with self.tracer.start_as_current_span(f"send {queue}", kind=SpanKind.PRODUCER, attributes=attributes):
            carried: dict[str, str] = {}
            _propagator.inject(carried)
            yield carried


def _instrument() -> None:
    """Turn on OpenTelemetry's instrumentations that are installed, but of what the worker itself calls all the time."""
    off = {name.strip() for name in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}
    for entry in entry_points(group="opentelemetry_instrumentor"):
        if entry.name in off | _NOT_INSTRUMENTED:
            continue
        try:
            instrumentor: Any = entry.load()()
            if not instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.instrument(raise_exception_on_conflict=True)
        except Exception as error:  # most often: the library that it instruments is not here
            log.debug("no instrumentation of %s: %s", entry.name, error)


class _Exporter(SpanExporter):
    """Counts what the collector did not take, and says so once a minute."""

    def __init__(self, inner: SpanExporter, endpoint: str) -> None:
        self.inner = inner
        self.endpoint = endpoint
        self._gate = AtMostOnce(_WARN_SECONDS, time.monotonic)
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self.inner.export(spans)
        except Exception as error:
            log.debug("export: %s", error)
            result = SpanExportResult.FAILURE
        if result is not SpanExportResult.SUCCESS:
            self._lost += len(spans)
            meter.count("trace_spans_dropped", (), len(spans))
            if self._gate.passes():
                log.warning("traces: %s took none of %d span(s); jobs go on", redact_text(self.endpoint), self._lost)
                self._lost = 0
        return result

    def shutdown(self) -> None:
        self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.inner.force_flush(timeout_millis)
