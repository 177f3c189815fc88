"""A collector that is down, slow or refuses: spans are lost and counted, memory is bounded, one warning a minute."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from fourlane.observe.export import SpanQueue
from fourlane.observe.meter import Meter
from tests.conftest import Hear
from tests.observe.receivers import Receiver
from tests.servers import eventually, free_port

Dropped = Callable[[], float]


class Scripted(SpanExporter):
    """Answers as told, when it is let."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.result = result
        self.may = threading.Event()
        self.may.set()
        self.sent = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.may.wait(20)
        self.sent += len(spans)
        return self.result


@pytest.fixture
def spans() -> list[ReadableSpan]:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    made = [tracer.start_span(f"span {number}") for number in range(2_000)]
    for span in made:
        span.end()
    return [span for span in made if isinstance(span, ReadableSpan)]


@pytest.fixture
def dropped(hear: Hear) -> Dropped:
    hear(meter := Meter())
    return lambda: sum(meter.figures.counts.get("trace_spans_dropped", {}).values())


def lost_by_warnings(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [
        int(re.findall(r"did not take (\d+) span", r.message)[0]) for r in caplog.records if "traces: " in r.message
    ]


def test_a_slow_collector_fills_no_memory(
    spans: list[ReadableSpan], dropped: Dropped, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = Scripted()
    queue = SpanQueue(exporter, "http://slow", most=100)
    exporter.may.clear()
    queue.add(spans[0])
    eventually(lambda: not queue._waiting)  # it is being sent, and nothing more is until that ends
    began = time.monotonic()
    for span in spans[1:]:
        queue.add(span)
    assert time.monotonic() - began < 1  # nobody waited
    assert len(queue._waiting) == 100
    assert dropped() == 1_899
    assert len(lost_by_warnings(caplog)) == 1
    assert queue.flush(0.05) is False
    exporter.may.set()
    assert queue.flush(10) is True
    assert exporter.sent == 101


def test_a_refusing_collector_is_told_of_once_a_minute(
    spans: list[ReadableSpan], dropped: Dropped, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1_000.0
    queue = SpanQueue(Scripted(SpanExportResult.FAILURE), "http://user:pw@refuses", now=lambda: now)
    for second in range(0, 180, 10):
        now = 1_000.0 + second
        queue.add(spans[second])
        assert queue.flush(10)
    assert dropped() == 18
    assert lost_by_warnings(caplog) == [1, 6, 6]  # the last five are told of in the next minute
    assert "pw" not in caplog.text


@pytest.mark.parametrize("fault", ["is down", "answers 500", "answers 404"])
def test_otlp_to_a_collector_in_trouble(
    spans: list[ReadableSpan], dropped: Dropped, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    with Receiver(500 if fault == "answers 500" else 404) as receiver:
        url = f"http://127.0.0.1:{free_port()}" if fault == "is down" else receiver.url
        queue = SpanQueue(OTLPSpanExporter(endpoint=url + "/v1/traces", timeout=1), url)
        for span in spans[:10]:
            queue.add(span)
        assert queue.flush(15)
    assert dropped() == 10
    assert lost_by_warnings(caplog) == [10]


def test_a_collector_that_recovers_gets_what_comes_then(spans: list[ReadableSpan], dropped: Dropped) -> None:
    exporter = Scripted(SpanExportResult.FAILURE)
    queue = SpanQueue(exporter, "http://x")
    queue.add(spans[0])
    assert queue.flush(10)
    exporter.result = SpanExportResult.SUCCESS
    for span in spans[1:1_200]:
        queue.add(span)
    assert queue.flush(10)
    assert (dropped(), exporter.sent) == (1, 1_200)


def test_a_forked_web_tier_sends_from_each_process(spans: list[ReadableSpan]) -> None:
    with Receiver() as receiver:
        queue = SpanQueue(OTLPSpanExporter(endpoint=receiver.url + "/v1/traces", timeout=5), receiver.url)
        queue.add(spans[0])
        assert queue.flush(10)
        child = os.fork()
        if child == 0:
            queue.add(spans[1])
            os._exit(0 if queue.flush(10) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert sorted(span["name"] for span in receiver.spans()) == ["span 0", "span 1"]
