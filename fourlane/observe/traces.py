"""Traces over OTLP: one from the publisher through the queue to the job and what it calls.

begin ─▶ jobspans.py (the spans of jobs) ─▶ tail.py (what is kept) ─▶ export.py (to the collector)
"""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

import opentelemetry.context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode

from fourlane.observe.current import CurrentTrace
from fourlane.observe.export import SpanQueue
from fourlane.observe.jobspans import JobContext, Spans, span_of
from fourlane.observe.tail import Share, TailProcessor
from fourlane.tasks.context import running
from fourlane.telling import Observer, Span

if TYPE_CHECKING:
    from fourlane.observe.setup import Observe

__all__ = ["annotate", "begin"]

log = logging.getLogger("fourlane.observe")

_EXPORT_SECONDS: Final = 5
_NOT_INSTRUMENTED: Final = frozenset({"redis", "celery", "threading"})  # the worker's own calls would drown the jobs'


def begin(observe: Observe) -> list[Observer]:
    """Make OpenTelemetry's global provider ours, and instrument the libraries that are here."""
    share = Share(observe.trace_percent)
    resource = Resource.create({"service.name": observe.service, "deployment.environment.name": observe.environment})
    provider = TracerProvider(sampler=share, resource=resource, shutdown_on_exit=False)
    logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)  # complains at each try; SpanQueue says it
    endpoint = observe.otlp_endpoint.rstrip("/") + "/v1/traces"
    queue = SpanQueue(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_SECONDS), observe.otlp_endpoint)
    processor = TailProcessor(share, queue)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    context = JobContext()
    context.share = share
    # There is an entry point for this, read when OpenTelemetry is first imported: too early for a setting.
    opentelemetry.context._RUNTIME_CONTEXT = context
    spans = Spans(provider, processor, observe.environment)
    _instrument()
    atexit.register(spans.closing)
    return [spans, _Calls(provider.get_tracer("fourlane"))]


def annotate(**attributes: str | int | float | bool) -> None:
    """Say something of what runs now, in the platform's words: ``user_id``, ``organization_id``, ``ai_cost_usd``…

    The span of the running job takes it, or outside a job the current span.
    """
    run: Any = running.get()
    context = opentelemetry.context._RUNTIME_CONTEXT
    if run is not None and not run.ended_at and isinstance(context, JobContext):
        span_of(run, context.share).set_attributes(attributes)
    else:
        trace.get_current_span().set_attributes(attributes)


class _Calls(CurrentTrace):
    """Spans around what is sent, where there is one to be its parent, and around parts of jobs. What is sent carries
    its span."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self.tracer = tracer

    @contextmanager
    def sending(self, queue: str, task: str, number: int = 1) -> Iterator[Mapping[str, str]]:
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
            yield self.carried()

    @contextmanager
    def span(
        self, name: str, attributes: Mapping[str, Any], *, outgoing: bool = False, judged: bool = False
    ) -> Iterator[Span]:
        kind = SpanKind.CLIENT if outgoing else SpanKind.INTERNAL
        with self.tracer.start_as_current_span(
            name, kind=kind, attributes=attributes, record_exception=not judged, set_status_on_exception=not judged
        ) as span:
            yield _Said(span)


class _Said(Span):
    """What is said of a part goes to OpenTelemetry's span."""

    def __init__(self, span: trace.Span) -> None:
        self.span = span

    def say(self, attributes: Mapping[str, Any]) -> None:
        self.span.set_attributes(attributes)

    def fail(self, why: str) -> None:
        self.span.set_status(Status(StatusCode.ERROR, why))


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
