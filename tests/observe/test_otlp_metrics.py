"""Metrics over OTLP, read back from a receiver: the same as the Prometheus page shows, and no collector costs a job."""

from __future__ import annotations

import gc
import logging
import time
import urllib.request
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from fourlane.errors import SettingsError
from fourlane.observe import Observe, check
from fourlane.observe.otlp import Pusher
from tests.command import Command, run_python
from tests.command import command as command
from tests.observe.receivers import Receiver
from tests.servers import eventually, free_port

TASKS = """
import fourlane

@fourlane.task(service="shop")
def noop():
    pass
"""
Series = dict[tuple[str, frozenset[tuple[str, str]]], Any]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def shop(command: Command) -> Command:
    command.module("shop", TASKS)
    return command


def pushes(receiver: Receiver) -> list[ExportMetricsServiceRequest]:
    return [
        ExportMetricsServiceRequest.FromString(b) for path, b, _ in list(receiver.requests) if path == "/v1/metrics"
    ]


def series(push: ExportMetricsServiceRequest) -> Series:
    """By name and labels: the value, or of a histogram count, sum and the counts up to each bound."""
    found: Series = {}
    for metric in push.resource_metrics[0].scope_metrics[0].metrics:
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points:
            key = (metric.name, frozenset((a.key, a.value.string_value) for a in point.attributes))
            if kind == "histogram":
                bounds = [*map(float, point.explicit_bounds), float("inf")]
                counts = [sum(point.bucket_counts[: n + 1]) for n in range(len(point.bucket_counts))]
                found[key] = (point.count, point.sum, dict(zip(bounds, counts, strict=True)))
            else:
                found[key] = point.as_double if point.HasField("as_double") else point.as_int
    return found


def scraped(port: int) -> Series:
    """The Prometheus page in the same form."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    found: Series = {}
    for family in families:
        for sample in family.samples:
            key = (family.name, frozenset((n, v) for n, v in sample.labels.items() if n != "le"))
            if family.type != "histogram":
                found[key] = sample.value
                continue
            count, total, buckets = found.get(key, (0, 0.0, {}))
            if sample.name.endswith("_bucket"):
                buckets = buckets | {float(sample.labels["le"]): sample.value}
            elif sample.name.endswith("_count"):
                count = sample.value
            else:
                total = sample.value
            found[key] = (count, total, buckets)
    return found


def start(command: Command, tmp_path: Path, url: str, **env: str) -> tuple[Any, Path]:
    log = tmp_path / "log"
    command.env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "FOURLANE_OTLP_METRICS": "true", "FOURLANE_TRACE_PERCENT": "0"}
    command.env |= env
    with log.open("wb") as stream:
        worker = command.start("worker", "shop", stderr=stream)
    eventually(lambda: "ready:" in log.read_text(), 30)
    return worker, log


def enqueue(command: Command, number: int) -> None:
    run_python(command, f"import shop; shop.noop.send_many([()] * {number})", OTEL_EXPORTER_OTLP_ENDPOINT="")


MOVING = (
    "process_rss_bytes",
    "redis_memory_bytes",
    "redis_commands",
    "redis_bytes",
    "redis_lookups",
    "redis_connections",
    "turns",
)
DONE = ("fourlane_jobs", frozenset({"task": "noop", "tier": "normal", "service": "shop", "outcome": "done"}.items()))


def test_a_collector_gets_what_prometheus_scrapes(shop: Command, receiver: Receiver, tmp_path: Path) -> None:
    port = free_port()
    env = {"FOURLANE_METRICS": "true", "FOURLANE_PROBE_PORT": str(port), "OTEL_METRIC_EXPORT_INTERVAL": "200"}
    start(shop, tmp_path, receiver.url, **env)
    enqueue(shop, 50)
    eventually(lambda: pushes(receiver) and series(pushes(receiver)[-1]).get(DONE) == 50, 20)

    def same() -> bool:
        """All but what moves by itself."""
        moving = {f"fourlane_{name}" for name in MOVING}
        page, push = scraped(port), series(pushes(receiver)[-1])
        return {k: v for k, v in page.items() if k[0] not in moving} == {
            k: v for k, v in push.items() if k[0] not in moving
        } and set(page) == set(push)

    kinds = {"fourlane_job_run_seconds", "fourlane_slots", "fourlane_queue_depth", "fourlane_crashes"}
    # Redis is looked at again after 5 s, and knows no queue before the first job.
    eventually(lambda: kinds <= {name for name, _ in series(pushes(receiver)[-1])}, 20)
    eventually(same, 20)
    [resource] = {
        tuple((a.key, a.value.string_value) for a in push.resource_metrics[0].resource.attributes)
        for push in pushes(receiver)
    }
    assert dict(resource)["service.name"] == "default"
    assert dict(resource)["service.instance.id"]


def test_a_stopping_worker_pushes_its_last_figures(shop: Command, receiver: Receiver, tmp_path: Path) -> None:
    worker, _ = start(shop, tmp_path, receiver.url, OTEL_METRIC_EXPORT_INTERVAL="3600000")
    enqueue(shop, 20)
    eventually(lambda: '"ready":0' in shop("queues", "--json").stdout.replace(" ", ""), 20)
    assert pushes(receiver) == []
    worker.terminate()
    assert worker.wait(30) == 0
    [push] = pushes(receiver)
    assert series(push)[DONE] == 20


@pytest.mark.parametrize("fault", ["refuses", "answers 503", "is silent"])
def test_a_collector_in_trouble_costs_no_job(shop: Command, receiver: Receiver, tmp_path: Path, fault: str) -> None:
    url = f"http://127.0.0.1:{free_port()}" if fault == "refuses" else receiver.url
    if fault == "answers 503":
        receiver.code = 503
    elif fault == "is silent":
        receiver.hold.clear()
    port = free_port()
    env = {"FOURLANE_METRICS": "true", "FOURLANE_PROBE_PORT": str(port), "OTEL_METRIC_EXPORT_INTERVAL": "20"}
    worker, log = start(shop, tmp_path, url, **env)
    enqueue(shop, 500)
    eventually(lambda: scraped(port).get(DONE) == 500, 20)
    eventually(lambda: "metrics: " in log.read_text(), 20)
    worker.terminate()
    begun = time.monotonic()
    assert worker.wait(20) == 0
    assert time.monotonic() - begun < 10
    assert log.read_text().count("did not take") == 1
    assert "Traceback" not in log.read_text()


def test_failed_pushes_keep_nothing_and_warn_once_a_minute(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.code = 400
    made: list[weakref.ref[Family]] = []
    clock = [100.0]

    def collect() -> Iterator[Family]:
        family = CounterMetricFamily("fourlane_x", "x", value=1)
        made.append(weakref.ref(family))
        yield family

    pusher = Pusher(collect, Observe(otlp_endpoint=receiver.url), now=lambda: clock[0])
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            assert not pusher.push()
        assert len(caplog.records) == 1
        clock[0] += 61
        assert not pusher.push()
    assert [record.getMessage().split(" did ")[1] for record in caplog.records] == [
        "not take 1 push(es); jobs go on",
        "not take 30 push(es); jobs go on",
    ]
    gc.collect()
    assert len(made) == 31
    assert [ref for ref in made if ref() is not None] == []
    receiver.code = 200
    assert pusher.push()  # well again, by itself


def test_a_collector_must_be_named() -> None:
    check(Observe())
    with pytest.raises(SettingsError, match="FOURLANE_OTLP_METRICS: no collector is named; set OTEL_EXPORTER_OTLP_"):
        check(Observe(otlp_metrics=True))
