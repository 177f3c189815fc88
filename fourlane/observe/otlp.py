"""Metrics over OTLP/HTTP: what the Prometheus page shows, pushed by the supervisor, one exporter for each worker host.

The figures are cumulative and live in the host anyway, so nothing waits for a collector: each push is made anew from
what is true then, and one that fails is made good by the next. At most one push is under way.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import export as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from fourlane.redact import redact_text
from fourlane.telling.seldom import AtMostOnce

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from fourlane.observe.setup import Observe

__all__ = ["Pusher"]

log = logging.getLogger("fourlane.observe")

_EXPORT_SECONDS: Final = 5
_CLOSE_SECONDS: Final = 2.0
_WARN_SECONDS: Final = 60.0
_CUMULATIVE: Final = otel.AggregationTemporality.CUMULATIVE


class Pusher:
    """A thread that pushes now and then, and once more at the end.

    Parameters:
      collect: all figures as they are now; it is what Prometheus scrapes.
      now: seconds, for the warnings.
    """

    def __init__(
        self, collect: Callable[[], Iterable[Metric]], observe: Observe, now: Callable[[], float] = time.monotonic
    ) -> None:
        for name in ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # they complain at each try; this says it once
        self._collect = collect
        self._where = observe.otlp_endpoint
        self._every = observe.otlp_metrics_ms / 1000
        endpoint = observe.otlp_endpoint.rstrip("/") + "/v1/metrics"
        self._exporter = OTLPMetricExporter(endpoint=endpoint, timeout=_EXPORT_SECONDS)
        self._resource = Resource.create(
            {
                "service.name": observe.service,
                "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",  # or hosts would be one series
                "deployment.environment.name": observe.environment,
            }
        )
        self._since = time.time_ns()
        self._gate = AtMostOnce(_WARN_SECONDS, now)
        self._failed = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fourlane-otlp-metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Push the last figures; a collector that takes longer than 2 s is not waited for."""
        self._stopping.set()
        self._thread.join(_CLOSE_SECONDS)

    def push(self) -> bool:
        """Push now; False: the collector did not take it."""
        try:
            taken = self._exporter.export(self._data()) is otel.MetricExportResult.SUCCESS
        except Exception as error:  # of the collector or of a look at a part of the figures: the next push is anew
            log.debug("export: %s", error)
            taken = False
        if not taken:
            self._failed += 1
            if self._gate.passes():
                log.warning("metrics: %s did not take %d push(es); jobs go on", redact_text(self._where), self._failed)
                self._failed = 0
        return taken

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self.push()
        self.push()

    def _data(self) -> otel.MetricsData:
        now = time.time_ns()
        metrics = [metric for family in self._collect() if (metric := _metric(family, self._since, now))]
        scope = otel.ScopeMetrics(InstrumentationScope("fourlane"), metrics, "")
        return otel.MetricsData([otel.ResourceMetrics(self._resource, [scope], "")])


def _metric(family: Metric, since: int, now: int) -> otel.Metric | None:
    """A family of Prometheus as OTLP has it; None: one of no series, or of a kind that OTLP has no counterpart for."""
    data: Any
    if family.type == "histogram":
        data = otel.Histogram(_histograms(family, since, now), _CUMULATIVE)
    elif family.type == "counter":
        samples = [sample for sample in family.samples if sample.name.endswith("_total")]
        points = [otel.NumberDataPoint(sample.labels, since, now, sample.value) for sample in samples]
        data = otel.Sum(points, _CUMULATIVE, is_monotonic=True)
    elif family.type in ("gauge", "unknown"):
        data = otel.Gauge([otel.NumberDataPoint(s.labels, 0, now, s.value) for s in family.samples])
    else:
        return None
    return otel.Metric(family.name, family.documentation, "", data) if data.data_points else None


def _histograms(family: Metric, since: int, now: int) -> list[otel.HistogramDataPoint]:
    """Prometheus counts what is at most each bound, OTLP what lies between two."""
    series: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        one = series.setdefault(tuple(sorted(labels.items())), {"labels": labels, "bounds": [], "counts": [], "sum": 0})
        if sample.name.endswith("_bucket"):
            one["bounds"].append(float(sample.labels["le"]))
            one["counts"].append(int(sample.value))
        elif sample.name.endswith("_sum"):
            one["sum"] = sample.value
    return [
        otel.HistogramDataPoint(
            attributes=one["labels"],
            start_time_unix_nano=since,
            time_unix_nano=now,
            count=one["counts"][-1],
            sum=one["sum"],
            bucket_counts=[b - a for a, b in zip([0, *one["counts"]], one["counts"], strict=False)],
            explicit_bounds=one["bounds"][:-1],
            min=None,  # type: ignore[arg-type]  # not known, and OTLP does not ask for them
            max=None,  # type: ignore[arg-type]
        )
        for one in series.values()
    ]
