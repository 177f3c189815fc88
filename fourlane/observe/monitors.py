"""Sentry's cron monitors: jobs that schedules made check in as they begin and as they end.

A check-in carries the schedule as it is stored in Redis, so that Sentry makes and changes the monitor by itself. It is
read in a thread of ours: neither a job nor the worker's loop waits for Redis or for Sentry.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from hashlib import blake2b
from math import ceil
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sentry_sdk.crons import capture_checkin

from fourlane.errors import FourlaneError
from fourlane.outcome import Cancel, Dead, Done, Outcome, Result
from fourlane.queues import schedules

if TYPE_CHECKING:
    from sentry_sdk._types import MonitorConfig

__all__ = ["Monitors", "monitor_config", "slug_of"]

log = logging.getLogger("fourlane.observe")

_STATUS: Final[dict[type, str]] = {Done: "ok", Result: "ok", Dead: "error", Cancel: "error"}
_MOST_WAITING: Final = 1_000
_FRESH_SECONDS: Final = 60.0
_MINUTE_MS: Final = 60_000
_OURS_ALONE: Final = re.compile(r"#|\dL|(?<!\w)L(?!\w)")  # a month's last day, or second Friday


class _CheckIn(NamedTuple):
    store: Any
    service: str
    schedule: str
    status: str
    id: str
    seconds: float | None
    most_ms: float


class Monitors:
    """One for a worker process."""

    def __init__(self) -> None:
        self._waiting: deque[_CheckIn] = deque(maxlen=_MOST_WAITING)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._idle = True
        self._configs: dict[tuple[str, str, float], tuple[MonitorConfig | None, float]] = {}

    def began(self, run: Any) -> None:
        """The first attempt begins: from now on Sentry waits for the end, as long as the job may take."""
        if run.attempt == 1:
            self._add(run, "in_progress", None)

    def ended(self, run: Any, outcome: Outcome) -> None:
        """A run ended. While it is to be tried again, the job goes on."""
        status = _STATUS.get(type(outcome))
        if status is not None:
            seconds = run.ended_at - run.started if run.started and run.attempt == 1 else None
            self._add(run, status, seconds)

    def flush(self, seconds: float) -> bool:
        """Wait until all is handed to Sentry's client; False when that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle and not self._waiting, seconds)

    def _add(self, run: Any, status: str, seconds: float | None) -> None:
        check_in_id = blake2b(run.id.encode(), digest_size=16).hexdigest()  # the same as the job ends
        most_ms = run.plan.timeout_ms or run.plan.hard_ms or 0
        with self._changed:
            self._waiting.append(
                _CheckIn(
                    run.store, run.service.name, run.envelope.options["schedule"], status, check_in_id, seconds, most_ms
                )
            )
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="fourlane-monitors", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                self._idle = False
                one = self._waiting.popleft()
            try:
                capture_checkin(
                    monitor_slug=slug_of(one.schedule),
                    check_in_id=one.id,
                    status=one.status,
                    duration=one.seconds,
                    monitor_config=self._config(one),
                )
            except Exception:
                log.warning("schedule %s could not check in", one.schedule, exc_info=True)

    def _config(self, one: _CheckIn) -> MonitorConfig | None:
        key = (one.service, one.schedule, one.most_ms)
        config, until = self._configs.get(key, (None, 0.0))
        if time.monotonic() < until:
            return config
        try:
            found = schedules.read(one.store, one.service, [one.schedule])
        except FourlaneError as error:
            log.debug("schedule %s: %s", one.schedule, error)
            return config
        config = monitor_config(found[one.schedule][0], one.most_ms) if one.schedule in found else None
        self._configs[key] = config, time.monotonic() + _FRESH_SECONDS
        return config


def slug_of(schedule: str) -> str:
    """The monitor's name in Sentry's alphabet."""
    return re.sub(r"[^a-z0-9_-]+", "-", schedule.lower())[:50]


def monitor_config(schedule: schedules.Schedule, most_ms: float) -> MonitorConfig | None:
    """What Sentry shall expect; None where it has no word for it: seconds, lists of moments, a month's last Friday."""
    if schedule.cron and len(schedule.cron.split()) in (1, 5) and not _OURS_ALONE.search(schedule.cron):
        when: Any = {"type": "crontab", "value": schedule.cron}
    elif schedule.every_ms and schedule.every_ms % _MINUTE_MS == 0:
        when = {"type": "interval", "value": schedule.every_ms // _MINUTE_MS, "unit": "minute"}
    else:
        return None
    late_ms = schedule.late_after_ms + schedule.spread_ms + schedule.jitter_ms
    config: MonitorConfig = {
        "schedule": when,
        "timezone": schedule.timezone,
        "checkin_margin": max(1, ceil(late_ms / _MINUTE_MS)),
    }
    if most_ms:
        config["max_runtime"] = max(1, ceil(most_ms / _MINUTE_MS))
    return config
