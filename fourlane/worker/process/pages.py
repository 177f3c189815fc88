"""The pages of a worker host's port: metrics, and health in the platform's format."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

from fourlane.errors import FourlaneError
from fourlane.queues.guards import ProviderStates
from fourlane.worker.process.health import Start
from fourlane.worker.process.probe import Page, json_page
from fourlane.worker.process.supervisor import Supervisor

__all__ = ["AI_PROVIDERS", "pages", "pages_of_start"]

Answer = Literal["healthy", "degraded", "unhealthy", "not configured"]

AI_PROVIDERS: Final = frozenset(("openai", "anthropic", "google", "perplexity", "openrouter"))
_FRESH_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 2.0


_PATHS: Final = ("/health", "/health/db", "/health/cache", "/health/ai", "/metrics")


def pages_of_start(start: Start) -> dict[str, Callable[[str], Page]]:
    """The same paths, before there is a supervisor."""
    return dict.fromkeys(_PATHS, lambda _: json_page(503, {"status": "unhealthy", "starting": start.why}))


def pages(supervisor: Supervisor) -> dict[str, Callable[[str], Page]]:
    """By path, what makes the answer."""
    checks = _Checks(supervisor)
    made: dict[str, Callable[[str], Page]] = {
        "/health": lambda _: checks.page("database", "cache", "ai_providers", "worker"),
        "/health/db": lambda _: checks.page("database"),
        "/health/cache": lambda _: checks.page("cache"),
        "/health/ai": lambda _: checks.page("ai_providers"),
    }
    metrics = supervisor.metrics
    if metrics is not None:
        made["/metrics"] = lambda accept: Page(200, *metrics.page(accept))
    return made


class _Checks:
    """Asks what the host depends on: each at most once in some seconds, and none for longer than two.

    What is not configured harms nothing. A provider of AI that is down makes the whole degraded, not unhealthy: its
    jobs wait or go to another.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._checks = {
            "database": _Check(self._database),
            "cache": _Check(self._cache),
            "ai_providers": _Check(self._ai_providers),
            "worker": _Check(self._worker),
        }

    def page(self, *names: str) -> Page:
        answers = {name: self._checks[name].answer() for name in names}
        word = "healthy"
        if "degraded" in answers.values() or answers.get("ai_providers") == "unhealthy":
            word = "degraded"
        if "unhealthy" in [answer for name, answer in answers.items() if name != "ai_providers" or len(names) == 1]:
            word = "unhealthy"
        content = {
            "status": word,
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
            "checks": answers,
            "uptime": self._uptime(),
        }
        return json_page(503 if word == "unhealthy" else 200, content)

    def _uptime(self) -> float:
        """Of all answers since the start, the share that was not bad, in percent."""
        asked = sum(check.asked for check in self._checks.values())
        bad = sum(check.bad for check in self._checks.values())
        return round(100 * (asked - bad) / max(1, asked), 2)

    def _worker(self) -> Answer:
        return "healthy" if self._supervisor.health().live else "unhealthy"

    def _cache(self) -> Answer:
        store = self._supervisor.store
        store.connector.command(store.keys.services, "TIME")
        return "healthy"

    def _database(self) -> Answer:
        outside = self._supervisor.outside() if self._supervisor.outside is not None else None
        if outside is None or not outside.has_database:
            return "not configured"
        return "healthy" if outside.database_answers() else "unhealthy"

    def _ai_providers(self) -> Answer:
        """What workers found when they called: nobody is called for this."""
        states = [s.state for s in ProviderStates(self._supervisor.store).look() if s.provider in AI_PROVIDERS]
        down = sum(state != "closed" for state in states)
        return "healthy" if not down else "unhealthy" if down == len(states) else "degraded"


class _Check:
    """One question, asked in a thread: who does not answer holds nobody up, and is not asked again meanwhile."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self.asked = 0
        self.bad = 0
        self._ask = ask
        self._lock = threading.Lock()
        self._at = -_FRESH_SECONDS
        self._known: Answer = "unhealthy"
        self._thread: threading.Thread | None = None
        self._found: Answer | None = None

    def answer(self) -> Answer:
        """The answer of now, or of some seconds ago."""
        with self._lock:
            if time.monotonic() - self._at >= _FRESH_SECONDS:
                self._known = self._now()
                self._at = time.monotonic()
                self.asked += 1
                self.bad += self._known == "unhealthy"
            return self._known

    def _now(self) -> Answer:
        if self._thread is None or not self._thread.is_alive():
            self._found = None
            self._thread = threading.Thread(target=self._run, name="fourlane-health", daemon=True)
            self._thread.start()
            self._thread.join(_CHECK_SECONDS)
        return self._found or "unhealthy"

    def _run(self) -> None:
        try:
            self._found = self._ask()
        except FourlaneError:
            self._found = "unhealthy"
