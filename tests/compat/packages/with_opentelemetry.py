"""opentelemetry-instrumentor-dramatiq: spans of who sends and of who works."""

import dramatiq
import seen
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry_instrumentor_dramatiq import DramatiqInstrumentor

import fourlane


class Notes(SpanExporter):
    """Notes the names of spans."""

    def export(self, spans: "list[ReadableSpan] | tuple[ReadableSpan, ...]") -> SpanExportResult:  # type: ignore[override]
        for span in spans:
            seen.note(f"span {span.name}")
        return SpanExportResult.SUCCESS


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Notes()))
trace.set_tracer_provider(provider)
dramatiq.set_broker(fourlane.RedisBroker(url=seen.URL))
DramatiqInstrumentor().instrument()


@dramatiq.actor
def works() -> None:
    seen.note("worked")


if __name__ == "__main__":
    with seen.running("with_opentelemetry"):
        works.send()
        seen.check("the job runs", lambda: "worked" in seen.notes())
        seen.check("a span of who sends", lambda: "span dramatiq.producer.works" in seen.notes())
        seen.check("a span of who works", lambda: "span dramatiq.worker.WorkerThread" in seen.notes(), 3)
