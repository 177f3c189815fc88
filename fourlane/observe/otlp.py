"""The same metrics over OTLP/HTTP: a thread of the supervisor sends all figures once a minute.

Nothing is queued: what a collector does not take is in the next sending, for all are totals since the start.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from fourlane.observe.logs import AtMostOnce
from fourlane.observe.redact import redact_text

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["Sender"]

log = logging.getLogger("fourlane.observe")

_EVERY_SECONDS: Final = 60.0
_TIMEOUT_SECONDS: Final = 5.0
_WARN_SECONDS: Final = 60.0
_CLOSE_SECONDS: Final = 2.0


class Sender:
    """Sends from its construction until close.

    Parameters:
      collect: makes the figures, as for a scrape.
      endpoint: the collector, without ``/v1/metrics``.
    """

    def __init__(
        self,
        collect: Callable[[], Iterable[Metric]],
        endpoint: str,
        *,
        service: str,
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        # The library tells each failure at length; once a minute is enough, and that is ours to do.
        logging.getLogger(OTLPMetricExporter.__module__).setLevel(logging.CRITICAL)
        self._collect = collect
        self._where = redact_text(endpoint)
        self._every_seconds = every_seconds
        self._exporter = OTLPMetricExporter(endpoint.rstrip("/") + "/v1/metrics", timeout=_TIMEOUT_SECONDS)
        self._resource = Resource.create({"service.name": service})
        self._began_ns = time.time_ns()
        self._gate = AtMostOnce(_WARN_SECONDS, time.monotonic)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fourlane-otlp-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send a last time, within two seconds."""
        self._stop.set()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(self._every_seconds):
            self._send()
        self._send()

    def _send(self) -> None:
        try:
            result = self._exporter.export(self._data(), timeout_millis=_TIMEOUT_SECONDS * 1000)
        except Exception as error:
            log.debug("metrics: %s", error)
            result = sdk.MetricExportResult.FAILURE
        if result is not sdk.MetricExportResult.SUCCESS and self._gate.passes():
            log.warning("metrics: %s did not take them; jobs go on, and the next sending has all", self._where)

    def _data(self) -> sdk.MetricsData:
        now_ns = time.time_ns()
        metrics = [self._metric(family, now_ns) for family in self._collect() if family.samples]
        scope = sdk.ScopeMetrics(InstrumentationScope("fourlane"), metrics, "")
        return sdk.MetricsData([sdk.ResourceMetrics(self._resource, [scope], "")])

    def _metric(self, family: Metric, now_ns: int) -> sdk.Metric:
        data: sdk.Sum | sdk.Gauge | sdk.Histogram
        if family.type == "histogram":
            data = sdk.Histogram(self._histograms(family, now_ns), sdk.AggregationTemporality.CUMULATIVE)
        else:
            points = [
                sdk.NumberDataPoint(sample.labels, self._began_ns, now_ns, float(sample.value))
                for sample in family.samples
                if not sample.name.endswith("_created")
            ]
            if family.type == "counter":
                data = sdk.Sum(points, sdk.AggregationTemporality.CUMULATIVE, is_monotonic=True)
            else:
                data = sdk.Gauge(points)
        return sdk.Metric(family.name, family.documentation, "", data)

    def _histograms(self, family: Metric, now_ns: int) -> list[sdk.HistogramDataPoint]:
        series: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            one = series.setdefault(tuple(labels.items()), {"labels": labels, "upto": [], "bounds": [], "sum": 0.0})
            if sample.name.endswith("_bucket"):
                one["upto"].append(int(sample.value))
                one["bounds"].append(float(sample.labels["le"]))
            elif sample.name.endswith("_sum"):
                one["sum"] = sample.value
        return [self._histogram(one, now_ns) for one in series.values()]

    def _histogram(self, one: dict[str, Any], now_ns: int) -> sdk.HistogramDataPoint:
        upto: Sequence[int] = one["upto"]
        counts = [upto[0], *(after - before for before, after in pairwise(upto))]
        return sdk.HistogramDataPoint(
            one["labels"], self._began_ns, now_ns, upto[-1], one["sum"], counts, one["bounds"][:-1],
            float("nan"), float("nan"),
        )  # fmt: skip
