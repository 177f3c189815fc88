"""Metrics over OTLP: what arrives at a real receiver, and a collector that refuses, fails or is silent."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric as Sent
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from fourlane.errors import SettingsError
from fourlane.observe import Observe, check
from fourlane.observe.otlp import Sender
from tests.observe.receivers import Receiver
from tests.servers import eventually, free_port


def figures() -> Iterator[Metric]:
    counter = CounterMetricFamily("fourlane_jobs", "Runs.", labels=["outcome"])
    counter.add_metric(["done"], 7)
    yield counter
    yield GaugeMetricFamily("fourlane_redis_up", "Up.", value=1)
    histogram = HistogramMetricFamily("fourlane_job_run_seconds", "Time.", labels=["task"])
    histogram.add_metric(["send"], [("0.1", 2), ("1.0", 5), ("+Inf", 6)], 9.5)
    yield histogram
    yield GaugeMetricFamily("fourlane_nothing", "Of which there is none.", labels=["x"])


def received(receiver: Receiver) -> dict[str, Sent]:
    found = {}
    for path, body, _ in list(receiver.requests):
        assert path == "/v1/metrics"
        for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in of_resource.scope_metrics:
                found.update({metric.name: metric for metric in scope.metrics})
    return found


def test_all_kinds_arrive() -> None:
    with Receiver() as receiver:
        sender = Sender(figures, receiver.url, service="mail", every_seconds=0.05)
        found = eventually(lambda: received(receiver), 10)
        sender.close()
    assert set(found) == {"fourlane_jobs", "fourlane_redis_up", "fourlane_job_run_seconds"}
    jobs = found["fourlane_jobs"].sum
    assert jobs.is_monotonic
    assert [(point.as_double, point.attributes[0].value.string_value) for point in jobs.data_points] == [(7, "done")]
    [run] = found["fourlane_job_run_seconds"].histogram.data_points
    assert (list(run.bucket_counts), list(run.explicit_bounds), run.count, run.sum) == ([2, 3, 1], [0.1, 1.0], 6, 9.5)
    assert found["fourlane_redis_up"].gauge.data_points[0].as_double == 1


def test_the_last_figures_are_sent_at_the_end() -> None:
    with Receiver() as receiver:
        Sender(figures, receiver.url, service="mail", every_seconds=3_600).close()
        assert "fourlane_jobs" in received(receiver)


@pytest.mark.parametrize("fault", ["refuses", "answers 503", "answers 400", "is silent"])
def test_a_collector_in_trouble_is_told_once_and_holds_nothing(fault: str, caplog: pytest.LogCaptureFixture) -> None:
    tried = threading.Semaphore(0)

    def told() -> Iterator[Metric]:
        tried.release()
        yield from figures()

    with Receiver() as receiver:
        url = f"http://127.0.0.1:{free_port()}" if fault == "refuses" else receiver.url
        receiver.code = {"answers 503": 503, "answers 400": 400}.get(fault, 200)
        if fault == "is silent":
            receiver.hold.clear()
        with caplog.at_level(logging.WARNING):
            sender = Sender(told, url, service="mail", every_seconds=0.01)
            for _ in range(2):  # one failed, and it went on
                assert tried.acquire(timeout=30)
            eventually(lambda: "did not take them" in caplog.text, 10)
            receiver.hold.set()
            sender.close()
    assert [record.name for record in caplog.records] == ["fourlane.observe"]
    assert [t.name for t in threading.enumerate()].count("fourlane-otlp-metrics") <= 1


def test_what_it_needs_is_said() -> None:
    with pytest.raises(SettingsError, match="FOURLANE_OTLP_METRICS needs FOURLANE_METRICS=true"):
        check(Observe(otlp_metrics=True, metrics=True))
