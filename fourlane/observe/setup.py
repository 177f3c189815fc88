"""What of a program's work is to be seen, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from fourlane.config.groups.observe import ObserveSettings

__all__ = ["Observe", "observe_of"]


class Observe(msgspec.Struct, frozen=True):
    """What is on, as plain data: a supervisor hands it to its processes."""

    environment: str = "local"
    service: str = "default"
    log_level: str = "INFO"
    metrics: bool = False
    otlp_endpoint: str = ""
    otlp_metrics: bool = False
    otlp_metrics_ms: int = 60_000
    trace_percent: float = 10
    sentry_dsn: str = ""
    sentry_every_attempt: bool = False
    sentry_percent: int = 100
    sentry_traces_percent: int = 0
    sentry_release: str = ""
    hidden: list[str] = []
    """Secrets, which are taken out of all that is kept of errors, logged and reported."""

    def __repr__(self) -> str:
        return f"Observe(environment={self.environment!r}, service={self.service!r})"


def observe_of(settings: ObserveSettings) -> Observe:
    """What the settings say."""
    from fourlane.config.secrets import secrets_of

    return Observe(
        environment=settings.environment,
        service=settings.service,
        log_level=settings.log_level,
        metrics=settings.metrics,
        otlp_endpoint=settings.otlp_endpoint or "",
        otlp_metrics=settings.otlp_metrics,
        otlp_metrics_ms=settings.otlp_metrics_ms,
        trace_percent=settings.trace_percent,
        sentry_dsn=settings.sentry_dsn.get_secret_value() if settings.sentry_dsn else "",
        sentry_every_attempt=settings.sentry_every_attempt,
        sentry_percent=settings.sentry_percent,
        sentry_traces_percent=settings.sentry_traces_percent,
        sentry_release=settings.sentry_release or "",
        hidden=[*secrets_of(settings)],
    )
