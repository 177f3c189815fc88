"""Which traces are kept, decided when they end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fourlane.observe.export import SpanQueue
from fourlane.observe.tail import Share, TailProcessor


class Tracing:
    """A provider of the test's own."""

    def __init__(self, percent: float) -> None:
        self.exporter = InMemorySpanExporter()
        share = Share(percent)
        self.processor = TailProcessor(share, SpanQueue(self.exporter, "memory"))
        self.provider = TracerProvider(sampler=share, shutdown_on_exit=False)
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("test")

    def kept(self) -> list[str]:
        self.processor.force_flush()
        return [span.name for span in self.exporter.get_finished_spans()]


@pytest.fixture
def nothing_by_chance() -> Iterator[Tracing]:
    made = Tracing(0)
    yield made
    made.provider.shutdown()


def test_an_error_anywhere_keeps_the_whole_trace(nothing_by_chance: Tracing) -> None:
    tracer = nothing_by_chance.tracer
    with tracer.start_as_current_span("dull"), tracer.start_as_current_span("child of dull"):
        pass
    with tracer.start_as_current_span("request"):
        with pytest.raises(ValueError), tracer.start_as_current_span("query"):
            raise ValueError("password=hunter2")
        with tracer.start_as_current_span("other"):
            pass
    assert sorted(nothing_by_chance.kept()) == ["other", "query", "request"]
    [query] = [s for s in nothing_by_chance.exporter.get_finished_spans() if s.name == "query"]
    assert query.attributes is not None
    assert query.attributes["status"] == "error"
    assert query.attributes["error_message"] == "ValueError: password=[redacted]"


def test_no_secret_leaves_in_a_span(nothing_by_chance: Tracing) -> None:
    given = {
        "http.request.header.authorization": ["x1y2z3"],
        "customer_email": "x1y2z3",
        "url": "redis://me:x1y2z3@host",
    }
    with suppress(ValueError), nothing_by_chance.tracer.start_as_current_span("call", attributes=given) as span:
        span.add_event("told", {"api_key": "x1y2z3", "number": 7})
        raise ValueError("token=x1y2z3")
    nothing_by_chance.kept()
    [kept] = nothing_by_chance.exporter.get_finished_spans()
    assert "x1y2z3" not in kept.to_json()
    assert dict(kept.events[0].attributes or {}) == {"api_key": "[redacted]", "number": 7}


def test_what_took_over_five_seconds_is_kept(nothing_by_chance: Tracing) -> None:
    now = time.time_ns()
    for name, seconds in (("quick", 4.9), ("slow", 5.1)):
        span = nothing_by_chance.tracer.start_span(name, start_time=now)
        span.end(end_time=now + int(seconds * 1e9))
    assert nothing_by_chance.kept() == ["slow"]


@pytest.mark.parametrize(("path", "least", "most"), [("/orders", 60, 145), ("/health", 1, 30)])
def test_a_share_of_the_others(path: str, least: int, most: int) -> None:
    tracing = Tracing(10)
    for _ in range(1_000):
        tracing.tracer.start_span("GET", attributes={"url.path": path}).end()
    assert least <= len(tracing.kept()) <= most
    tracing.provider.shutdown()


def test_of_an_endless_trace_so_many_spans_are_held(nothing_by_chance: Tracing) -> None:
    tracer = nothing_by_chance.tracer
    root = tracer.start_span("root")
    inside = trace.set_span_in_context(root)
    for _ in range(3_000):
        tracer.start_span("child", context=inside).end()
    assert len(root.tail.spans) == 1_000  # type: ignore[attr-defined]
    unended = [tracer.start_span("lost") for _ in range(10_500)]
    assert len(nothing_by_chance.processor._open) <= 10_000
    assert unended
