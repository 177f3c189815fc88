"""What a worker process counts and times, and how it hands that over to its supervisor (metrics.py)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from fourlane.observe.figures import CATALOGUE, Exemplar, Figures, bucket_of
from fourlane.telling import Observer

__all__ = ["Meter", "Writer"]

log = logging.getLogger("fourlane.observe")

_WRITE_SECONDS: Final = 0.25


class Meter(Observer):
    """Counts what it is told, from any thread, until somebody takes the figures."""

    def __init__(self) -> None:
        self.figures = Figures()
        self.changed = False
        self._lock = threading.Lock()

    def counted(self, name: str, labels: tuple[str, ...], value: float = 1) -> None:
        with self._lock:
            self.figures.add(name, labels, value)
            self.changed = True

    def moved(self, name: str, labels: tuple[str, ...], by: float) -> None:
        self.counted(name, labels, by)

    def timed(self, name: str, labels: tuple[str, ...], seconds: float) -> None:
        buckets = [0] * (len(CATALOGUE[name].bounds) + 1)
        buckets[bucket_of(name, seconds)] = 1
        self.record(name, labels, buckets, seconds)

    def record(self, name: str, labels: tuple[str, ...], buckets: list[int], total: float) -> None:
        """Add a batch of times, sorted into their buckets."""
        with self._lock:
            self.figures.add_times(name, labels, buckets, total)
            self.changed = True

    def exemplar(self, name: str, labels: tuple[str, ...], trace_id: str, seconds: float) -> None:
        with self._lock:
            self.figures.add_exemplar(name, labels, Exemplar(trace_id, seconds, time.time()))
            self.changed = True

    def stale(self, service: str, runs: Sequence[Any]) -> None:
        self.counted("stale_acks", (service,), len(runs))

    def refused(self, service: str, number: int) -> None:
        self.counted("stale_acks", (service,), number)

    def leases_lost(self, service: str, worker: str, running: int) -> None:
        self.counted("leases_lost", (service,))

    def copy(self) -> Figures:
        """All figures as they are now, for a reader in this process."""
        with self._lock:
            copied = Figures()
            copied.fold(self.figures)
            return copied

    def take(self) -> bytes | None:
        """All figures as they are now; None when nothing changed since the last time."""
        with self._lock:
            if not self.changed:
                return None
            self.changed = False
            return msgspec.json.encode(self.figures)


class Writer(Observer):
    """Hands a meter's figures over when the loop rests; it is quick when nothing changed."""

    def __init__(self, meter: Meter, folder: str, name: str) -> None:
        self.meter = meter
        self.path = Path(folder) / f"{name}.json"
        self._written_at = 0.0
        self._warned = False

    def resting(self, now: float) -> float | None:
        """Write what changed, if the last time is long enough ago."""
        if not self.meter.changed:
            return None
        if now - self._written_at < _WRITE_SECONDS:
            return self._written_at + _WRITE_SECONDS
        self._written_at = now
        self.closing()
        return None

    def closing(self) -> None:
        data = self.meter.take()
        if data is None:
            return
        try:
            new = self.path.with_suffix(".new")
            new.write_bytes(data)
            new.replace(self.path)
        except OSError as error:
            if not self._warned:
                log.warning("metrics cannot be written to %s: %s", self.path, error.strerror)
            self._warned = True
