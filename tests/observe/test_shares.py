"""A web tier, a worker and the job's child decide alike, though each for itself, which traces are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command, run_python
from tests.observe.receivers import Receiver
from tests.servers import eventually

Span = dict[str, Any]
REQUESTS = 120

TASKS = """
import fourlane
from opentelemetry import trace

@fourlane.task(service="shop", max_retries=0)
def parent(number):
    with trace.get_tracer("shop").start_as_current_span("inside"):
        child.send(number)

@fourlane.task(service="shop", max_retries=0)
def child(number):
    if number % 4 == 0:
        raise ValueError(number)
"""

WEB = f"""
import fourlane.observe
fourlane.observe.start(service="web", trace_percent=50)
from opentelemetry import trace
import shop
tracer = trace.get_tracer("web")
for number in range({REQUESTS}):
    with tracer.start_as_current_span("GET", attributes={{"number": number}}):
        shop.parent.send(number)
for number in range(300):
    with tracer.start_as_current_span("GET", attributes={{"url.path": "/health"}}):
        pass
"""


@pytest.fixture
def command(tmp_path: Path, redis_url: str, namespace: str, receiver: Receiver) -> Iterator[Command]:
    made = Command(
        tmp_path,
        REDIS_URL=redis_url,
        FOURLANE_NAMESPACE=namespace,
        FOURLANE_TRACE_PERCENT="1",
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        PYTHONWARNINGS="ignore",
    )
    made.module("shop", TASKS)
    yield made
    made.close()


def test_whole_traces_are_kept_and_every_error(command: Command, receiver: Receiver, tmp_path: Path) -> None:
    run_python(command, WEB)  # its share is 50 %, the worker's 1 %: the first one decides for all
    with (tmp_path / "log").open("wb") as stream:
        worker = command.start("worker", "shop", stderr=stream)

    def traces(chosen: Callable[[Span], bool]) -> set[str]:
        return {span["trace"] for span in receiver.spans() if chosen(span)}

    requests = traces(lambda span: "number" in span["attributes"])
    assert REQUESTS // 4 < len(requests) < REQUESTS * 3 // 4
    eventually(lambda: len(traces(lambda span: is_child(span) and span["error"])) == REQUESTS // 4, 40)
    eventually(lambda: traces(is_child) >= requests, 20)
    worker.terminate()
    assert worker.wait(20) == 0
    assert traces(lambda span: span["attributes"].get("operation") == "parent") == requests
    assert traces(lambda span: span["name"] == "inside") == requests
    assert traces(lambda span: is_child(span) and not span["error"]) <= requests

    # A child that fails is kept though nothing of its trace was; then its parent's place is empty.
    assert traces(is_child) - requests

    health = [span for span in receiver.spans() if span["attributes"].get("url.path") == "/health"]
    assert len(health) <= 15  # of 300, though half of the others is kept


def is_child(span: Span) -> bool:
    return bool(span["attributes"].get("operation") == "child")
