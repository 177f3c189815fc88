"""The pages of a worker host's port: metrics, and health in the platform's format."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from fourlane.errors import RedisUnavailable
from fourlane.worker.probe import Page, json_page
from fourlane.worker.supervisor import Supervisor

__all__ = ["pages"]

_FRESH_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 2.0


def pages(supervisor: Supervisor) -> dict[str, Callable[[str], Page]]:
    """By path, what makes the answer."""
    checks = _Checks(supervisor)
    made: dict[str, Callable[[str], Page]] = {
        "/health": lambda _: checks.page("cache", "worker"),
        "/health/cache": lambda _: checks.page("cache"),
    }
    metrics = supervisor.metrics
    if metrics is not None:
        made["/metrics"] = lambda accept: Page(200, *metrics.page(accept))
    return made


class _Checks:
    """Asks what the host depends on: each at most once in some seconds, and none for longer than two."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[float, bool]] = {}
        self._asked = 0
        self._well = 0

    def page(self, *names: str) -> Page:
        with self._lock:
            checks = {name: self._check(name) for name in names}
            uptime = round(100 * self._well / max(1, self._asked), 2)
        well = all(checks.values())
        words = {True: "healthy", False: "unhealthy"}
        content = {
            "status": words[well],
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "checks": {name: words[answer] for name, answer in checks.items()},
            "uptime": uptime,
        }
        return json_page(200 if well else 503, content)

    def _check(self, name: str) -> bool:
        now = time.monotonic()
        at, answer = self._answers.get(name, (-_FRESH_SECONDS, False))
        if now - at >= _FRESH_SECONDS:
            answer = self._supervisor.health().live if name == "worker" else self._within(self._redis_answers)
            self._answers[name] = (now, answer)
            self._asked += 1
            self._well += answer
        return answer

    @staticmethod
    def _within(ask: Callable[[], bool]) -> bool:
        """A Redis that is silent would hold the question up for longer than a probe waits."""
        found: list[bool] = []
        thread = threading.Thread(target=lambda: found.append(ask()), name="fourlane-health", daemon=True)
        thread.start()
        thread.join(_CHECK_SECONDS)
        return bool(found and found[0])

    def _redis_answers(self) -> bool:
        store = self._supervisor.store
        try:
            store.connector.command(store.keys.services, "TIME")
        except RedisUnavailable:
            return False
        return True
