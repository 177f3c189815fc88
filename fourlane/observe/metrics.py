"""Metrics for Prometheus: worker processes write their figures to files (meter.py), the supervisor serves the sum.

A process replaces its file as a whole, at most four times a second, so a kill costs a quarter of a second of counts and
never tears one. When a process ends, its figures go over into the supervisor's, and its file away: recycling leaves
nothing behind. Depths and ages are read from Redis when someone scrapes, by counts and never by scans.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from fourlane.errors import RedisUnavailable
from fourlane.observe.figures import CATALOGUE, Figures
from fourlane.observe.meter import Meter
from fourlane.queues import browse, status
from fourlane.queues.guards import ProviderState
from fourlane.queues.status import Beyond
from fourlane.queues.store import Store
from fourlane.telling import tell

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["Host"]

log = logging.getLogger("fourlane.observe")

_PREFIX: Final = "fourlane-metrics-"
_FRESH_SECONDS: Final = 5.0
_BEYOND_SECONDS: Final = 30.0
_TOO_OLD_SECONDS: Final = 120.0
_MOST_SCHEDULES: Final = 300
_MOST_TENANTS: Final = 100


class Process(Protocol):
    """What is told of each worker process at a scrape."""

    name: str
    busy: int
    slots: int
    rss_mb: float


class Host:
    """All figures of one worker host, as Prometheus wants them.

    Parameters:
      processes: the worker processes now, as ``(name, busy, slots, rss_mb)``.
      store: where depths and ages are read.
      beyond: looks at what lies beyond Redis, as long as that takes.
    """

    def __init__(
        self,
        store: Store,
        processes: Callable[[], Iterable[tuple[str, int, int, float]]],
        beyond: Callable[[], Beyond] = Beyond,
    ) -> None:
        _remove_orphans()
        self.folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")
        self.counts: Counter[str] = Counter()
        self._store = store
        self._processes = processes
        self._gone = Figures()
        self._mine = Meter()  # of the supervisor itself, in which a relay may run
        tell.add(self._mine)
        self._told: dict[str, dict[str, float]] = {}  # counts and sums of the last answer
        self._lock = threading.Lock()
        self._looked_at = -_FRESH_SECONDS
        self._seen: status.Seen | None = None
        self._redis_up = False
        self._traffic: browse.Traffic | None = None
        self._beyond = _Aside(beyond)

    def process_ended(self, name: str) -> None:
        """Take over the figures of a process that is gone."""
        path = Path(self.folder) / f"{name}.json"
        with self._lock:
            figures = _read(path)
            if figures is not None:
                self._gone.fold(msgspec.structs.replace(figures, levels={}))
            path.unlink(missing_ok=True)

    def close(self) -> None:
        tell.remove(self._mine)
        shutil.rmtree(self.folder, ignore_errors=True)

    def figures(self) -> Figures:
        """The sum over all processes of this host, those that ended too."""
        total = Figures()
        with self._lock:
            total.fold(self._gone)
            total.fold(self._mine.copy())
            for path in sorted(Path(self.folder).glob("*.json")):
                figures = _read(path)
                if figures is not None:
                    total.fold(figures)
            self._never_less(total)
        return total

    def _never_less(self, total: Figures) -> None:
        """Fractions that are added in another order, as when a process ends, may come out a hair smaller; Prometheus
        takes a counter that goes down for one that began anew, and counts all of it a second time."""
        for name, counts in total.counts.items():
            told = self._told.setdefault(name, {})
            for key, value in counts.items():
                counts[key] = told[key] = max(value, told.get(key, 0.0))
        for name, series in total.times.items():
            told = self._told.setdefault(name, {})
            for key, times in series.items():
                times.sum = told[key] = max(times.sum, told.get(key, 0.0))

    def page(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and text, in the form that the scraper asks for. Exemplars only go into OpenMetrics."""
        from prometheus_client import exposition, openmetrics

        if "application/openmetrics-text" in accept:
            from prometheus_client.openmetrics import exposition as open_exposition

            return openmetrics.exposition.CONTENT_TYPE_LATEST, open_exposition.generate_latest(self)  # type: ignore[no-untyped-call]
        return exposition.CONTENT_TYPE_LATEST, exposition.generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client: this is a collector."""
        yield from _figures(self.figures())
        yield from self._of_host()
        yield from self._of_queues()
        yield from _of_beyond(self._beyond.last())
        yield from _of_users()

    def _of_host(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        slots = GaugeMetricFamily("fourlane_slots", "Plain functions that may run at once.", labels=["process"])
        busy = GaugeMetricFamily("fourlane_running", "Jobs that run now.", labels=["process"])
        memory = GaugeMetricFamily("fourlane_process_rss_bytes", "Memory of a worker process.", labels=["process"])
        for number, (_, running, room, rss_mb) in enumerate(self._processes()):
            slots.add_metric([str(number)], room)
            busy.add_metric([str(number)], running)
            memory.add_metric([str(number)], rss_mb * 1_048_576)
        yield from (slots, busy, memory)
        for name, text in (
            ("crashes", "Worker processes that died."),
            ("hard_limit_kills", "Worker processes killed at a job's hard limit."),
            ("poisoned", "Jobs made dead letters because workers died running them."),
        ):
            yield CounterMetricFamily(f"fourlane_{name}", text, value=self.counts[name])

    # Redis, looked at once in some seconds however many scrape

    def _look(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now - self._looked_at < _FRESH_SECONDS:
                return
            self._looked_at = now
            try:
                self._seen = status.look(self._store)
                self._traffic = browse.traffic(self._store)
                self._redis_up = True
            except RedisUnavailable:
                self._redis_up = False

    def _of_queues(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        self._look()
        yield GaugeMetricFamily("fourlane_redis_up", "Whether Redis answered.", value=int(self._redis_up))
        if not self._redis_up or self._seen is None:
            return
        of_queue = ["queue", "tier", "service"]
        depth = GaugeMetricFamily("fourlane_queue_depth", "Jobs that may run and wait.", labels=of_queue)
        age = GaugeMetricFamily("fourlane_queue_oldest_seconds", "How long the next job has waited.", labels=of_queue)
        dead = GaugeMetricFamily("fourlane_dead_letters", "Dead letters kept.", labels=of_queue)
        paused = GaugeMetricFamily("fourlane_queue_paused", "1: paused by an operator.", labels=of_queue)
        target = GaugeMetricFamily("fourlane_queue_target_seconds", "How long a job may wait.", labels=of_queue)
        done = CounterMetricFamily("fourlane_queue_done", "Jobs that succeeded, on all hosts.", labels=of_queue)
        delayed = GaugeMetricFamily("fourlane_delayed", "Jobs that may not run yet.", labels=["service"])
        parked = GaugeMetricFamily("fourlane_parked", "Jobs that wait for a place in a line.", labels=["service"])
        leased = GaugeMetricFamily("fourlane_leased", "Jobs that workers hold, on all hosts.", labels=["service"])
        workers = GaugeMetricFamily("fourlane_workers", "Worker processes, on all hosts.", labels=["service"])
        for service in self._seen.services:
            delayed.add_metric([service.name], service.delayed)
            parked.add_metric([service.name], service.parked)
            leased.add_metric([service.name], service.running)
            workers.add_metric([service.name], service.workers)
            for queue in service.queues:
                labels = [queue.name, queue.tier.word, queue.service]
                depth.add_metric(labels, queue.ready)
                age.add_metric(labels, (queue.oldest_age_ms or 0) / 1000)
                dead.add_metric(labels, queue.dead)
                paused.add_metric(labels, int(queue.paused))
                target.add_metric(labels, queue.tier.target_ms / 1000)
                done.add_metric(labels, queue.done or 0)
        yield from (depth, age, dead, paused, target, done, delayed, parked, leased, workers)
        lost = sum(worker.lost for worker in self._seen.workers)
        yield GaugeMetricFamily("fourlane_workers_lost", "Worker processes not seen for 90 s.", value=lost)
        text = "1: Redis lost its data, and what code declares is not back yet."
        yield GaugeMetricFamily("fourlane_data_lost", text, value=int(self._seen.data_lost))
        over_ms = max((w.overrun.over_ms for w in self._seen.workers if w.overrun and not w.lost), default=0)
        text = "For how long the job runs on that passed its time limit first; 0: none does."
        yield GaugeMetricFamily("fourlane_job_overrun_seconds", text, value=over_ms / 1000)
        yield from _of_schedules(self._seen.schedules)
        yield _of_providers(self._seen.providers)
        if self._seen.memory is not None:
            used, most = self._seen.memory
            yield GaugeMetricFamily("fourlane_redis_memory_bytes", "Memory that Redis uses.", value=used)
            yield GaugeMetricFamily("fourlane_redis_memory_limit_bytes", "Its maxmemory; 0: none.", value=most)
        if self._traffic is not None:
            yield from _of_traffic(self._traffic)


def _of_traffic(told: browse.Traffic) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    if told.commands is not None:
        text = "Commands that Redis ran for anyone, those inside scripts too."
        yield CounterMetricFamily("fourlane_redis_commands", text, value=told.commands)
    for name, text, label, values in (
        (
            "fourlane_redis_bytes",
            "Bytes to and from Redis.",
            "direction",
            {"to": told.got_bytes, "from": told.sent_bytes},
        ),
        (
            "fourlane_redis_lookups",
            "Keys that anyone looked up in Redis.",
            "found",
            {"hit": told.hits, "miss": told.misses},
        ),
    ):
        family = CounterMetricFamily(name, text, labels=[label])
        for word, value in values.items():
            if value is not None:
                family.add_metric([word], value)
        yield family
    if told.connections is not None:
        yield GaugeMetricFamily("fourlane_redis_connections", "Connections that Redis has.", value=told.connections)


def _of_schedules(found: list[status.Late]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    labels = ["schedule", "service"]
    overdue = GaugeMetricFamily("fourlane_schedule_overdue_seconds", "How long its next time is past.", labels=labels)
    allowed = GaugeMetricFamily("fourlane_schedule_allowed_seconds", "How late it may be.", labels=labels)
    last = GaugeMetricFamily("fourlane_schedule_last_late_seconds", "How late its last job was made.", labels=labels)
    for one in sorted(found, key=lambda late: -late.late_ms)[:_MOST_SCHEDULES]:
        overdue.add_metric([one.name, one.service], one.late_ms / 1000)
        allowed.add_metric([one.name, one.service], one.allowed_ms / 1000)
        last.add_metric([one.name, one.service], one.last_ms / 1000)
    yield from (overdue, allowed, last)


def _of_providers(found: list[ProviderState]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    down: dict[tuple[str, str], int] = {}
    for state in found:
        key = (state.provider, state.name.rpartition(":")[0])
        down[key] = max(down.get(key, 0), int(state.state != "closed"))
    text = "1: the breaker of one of its keys is open."
    family = GaugeMetricFamily("fourlane_provider_down", text, labels=["provider", "model"])
    for labels, value in down.items():
        family.add_metric(labels, value)
    return family


def _of_beyond(beyond: Beyond) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    waiting = GaugeMetricFamily("fourlane_outbox_waiting", "Committed jobs that a relay is to move now.")
    oldest = GaugeMetricFamily("fourlane_outbox_oldest_seconds", "How long the oldest of them waits.")
    failed = GaugeMetricFamily("fourlane_outbox_newly_failed", "Rows that were no jobs, within 30 minutes.")
    stream = GaugeMetricFamily("fourlane_stream_waiting", "Events that wait in SQS.", labels=["stream"])
    used = GaugeMetricFamily("fourlane_ai_budget_used_ratio", "Used share of an AI budget.", labels=["budget"])
    refusing = GaugeMetricFamily(
        "fourlane_ai_budget_refusing", "1: calls were refused within 10 minutes.", labels=["budget"]
    )
    lost = GaugeMetricFamily("fourlane_beyond_unreachable", "1: it could not be asked.", labels=["what"])
    for lag in beyond.lags:
        if lag.kind == "stream":
            stream.add_metric([lag.name], lag.waiting)
        else:
            waiting.add_metric([], lag.waiting)
            oldest.add_metric([], (lag.oldest_ms or 0) / 1000)
            failed.add_metric([], lag.newly_failed)
    for one in beyond.spending[:_MOST_TENANTS]:  # those come first that have used the most
        used.add_metric([one.budget], one.share)
        refusing.add_metric([one.budget], int(one.refusing))
    for what in beyond.unreachable:
        lost.add_metric([what], 1)
    yield from (waiting, oldest, failed, stream, used, refusing, lost)


class _Aside:
    """Asks what may take long in a thread beside, when it is wanted and the last answer is old; never two at once."""

    def __init__(self, ask: Callable[[], Beyond]) -> None:
        self._ask = ask
        self._answer = Beyond()
        self._at = time.monotonic()
        self._next = 0.0
        self._thread: threading.Thread | None = None

    def last(self) -> Beyond:
        """The last answer; one that is too old says only that there is no other."""
        now = time.monotonic()
        if now >= self._next and (self._thread is None or not self._thread.is_alive()):
            self._next = now + _BEYOND_SECONDS
            self._thread = threading.Thread(target=self._run, name="fourlane-beyond", daemon=True)
            self._thread.start()
        if now - self._at > _TOO_OLD_SECONDS and self._thread is not None and self._thread.is_alive():
            return Beyond(unreachable={"database, event queues": "no answer"})
        return self._answer

    def _run(self) -> None:
        try:
            self._answer = self._ask()
        except RedisUnavailable:
            return  # that is told already
        except Exception as error:
            log.warning("metrics: what lies beyond Redis could not be looked at: %s", error)
            return
        self._at = time.monotonic()


def _figures(figures: Figures) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.samples import Exemplar

    for name, figure in CATALOGUE.items():
        if not figure.bounds:
            kind = GaugeMetricFamily if figure.is_level else CounterMetricFamily
            family = kind(f"fourlane_{name}", figure.help, labels=figure.labels)
            series = (figures.levels if figure.is_level else figures.counts).get(name, {})
            for key, value in series.items():
                family.add_metric(key.split("\n") if figure.labels else [], value)
            yield family
            continue
        histogram = HistogramMetricFamily(f"fourlane_{name}", figure.help, labels=figure.labels)
        for key, times in figures.times.get(name, {}).items():
            total, buckets = 0, []
            for number, bound in enumerate((*figure.bounds, float("inf"))):
                total += times.buckets[number]
                told = times.exemplars.get(number)
                exemplar = Exemplar({"trace_id": told.trace_id}, told.seconds, told.at) if told else None
                buckets.append([str(bound) if bound != float("inf") else "+Inf", total, exemplar])
            histogram.add_metric(key.split("\n"), buckets, times.sum)  # type: ignore[arg-type]
        yield histogram


def _of_users() -> Iterator[Metric]:
    """What tasks count by prometheus_client itself, when its folder for several processes is set."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client import CollectorRegistry, multiprocess

        yield from multiprocess.MultiProcessCollector(CollectorRegistry()).collect()  # type: ignore[no-untyped-call]


def _read(path: Path) -> Figures | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Figures)
    except (OSError, msgspec.DecodeError):
        return None


def _remove_orphans() -> None:
    """Folders of supervisors that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, ValueError):
            continue
