"""What is kept of the traces, decided at the end: each with an error or over 5 s, and a share of the others; of
requests to health pages a hundredth. Until a trace's first span of this process ends, its spans are held.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from fourlane.observe.export import SpanQueue
from fourlane.redact import redact, redact_text
from fourlane.tasks.context import running
from fourlane.telling.observer import SLOW_SECONDS

__all__ = ["Share", "Tail", "TailProcessor", "as_sampled", "context_of"]

_SLOW_NS: Final = int(SLOW_SECONDS * 1e9)
_HEALTH_PERCENT: Final = 1
_HEALTH_PATHS: Final = ("/health", "/live", "/ready", "/metrics")
_MOST_SPANS: Final = 1_000  # of one trace, held until it ends
_MOST_OPEN: Final = 10_000
_IDS: Final = 1 << 64


class Tail:
    """The spans of one trace in this process, from its first to its last, and whether they are kept."""

    __slots__ = ("decision", "error", "lock", "root", "slow", "spans")

    def __init__(self, root: int) -> None:
        self.root = root  # the span whose end decides
        self.lock = threading.Lock()
        self.spans: list[ReadableSpan] = []
        self.error = self.slow = False
        self.decision: bool | None = None


class Share(Sampler):
    """Records everything, for the end decides. What goes to others says "sampled" for the share that is kept anyway.

    The share follows from the trace's id, so that all processes choose the same traces.
    """

    def __init__(self, percent: float) -> None:
        self.percent = percent

    def has(self, trace_id: int, percent: float | None = None) -> bool:
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
        sampled = parent.trace_flags.sampled if parent.is_valid else self.has(trace_id)
        decision = Decision.RECORD_AND_SAMPLE if sampled else Decision.RECORD_ONLY
        return SamplingResult(decision, attributes, parent.trace_state if parent.is_valid else None)

    def get_description(self) -> str:
        return f"fourlane: errors, over 5 s, {self.percent:g} % of the others"


class TailProcessor(SpanProcessor):
    """Holds the spans of each trace until its first span of this process ends, then keeps or drops them all."""

    def __init__(self, share: Share, queue: SpanQueue) -> None:
        self.share = share
        self.queue = queue
        self._open: dict[int, Tail] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        parent = trace.get_current_span(parent_context)
        span_id = context_of(span).span_id
        run: Any = running.get()
        if run is not None and "service" not in (span.attributes or {}):
            span.set_attribute("service", run.service.name)
        tail: Tail = getattr(parent, "tail", None) or Tail(span_id)
        span.tail = tail  # type: ignore[attr-defined] # for its children
        self._open[span_id] = tail
        if len(self._open) > _MOST_OPEN:  # spans that nobody ends
            self._open.pop(next(iter(self._open)), None)

    def on_end(self, span: ReadableSpan) -> None:
        context = context_of(span)
        tail = self._open.pop(context.span_id, None)
        if tail is not None:
            self.ended(tail, span)

    def ended(self, tail: Tail, span: ReadableSpan, error: bool = False) -> None:
        """One span more of a trace; when it is the first one of this process, the trace is decided."""
        context = context_of(span)
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
                self.queue.add(_dressed(kept))

    def _by_chance(self, root: ReadableSpan) -> bool:
        context = context_of(root)
        attributes = root.attributes or {}
        path = attributes.get("url.path") or attributes.get("http.target")
        if isinstance(path, str) and path.startswith(_HEALTH_PATHS):
            return self.share.has(context.trace_id, min(self.share.percent, _HEALTH_PERCENT))
        return context.trace_flags.sampled

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.queue.flush(timeout_millis / 1_000)


def context_of(span: Any) -> SpanContext:
    context: SpanContext = span.get_span_context()
    return context


def as_sampled(context: SpanContext) -> SpanContext:
    flags = TraceFlags(context.trace_flags | TraceFlags.SAMPLED)
    return SpanContext(context.trace_id, context.span_id, False, flags, context.trace_state)


def _dressed(span: ReadableSpan) -> ReadableSpan:
    """A kept span, marked as sampled, with the platform's attributes and without secrets."""
    attributes: dict[str, Any] = redact(span.attributes or {})
    failed = span.status.status_code is StatusCode.ERROR
    attributes["duration_ms"] = round(((span.end_time or 0) - (span.start_time or 0)) / 1e6, 3)
    attributes["status"] = "error" if failed else "ok"
    name = redact_text(span.name)
    attributes.setdefault("operation", name)
    attributes.setdefault("service", str(span.resource.attributes.get("service.name", "")))
    status = span.status
    if failed and status.description:
        attributes["error_message"] = redact_text(status.description)
        status = Status(StatusCode.ERROR, redact_text(status.description))
    return ReadableSpan(
        name=name,
        context=as_sampled(context_of(span)),
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


def _redacted(event: Event) -> Event:
    return Event(event.name, redact(event.attributes or {}), event.timestamp)
