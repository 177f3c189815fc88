"""What of a program's work is to be seen: logs, metrics, traces, Sentry's reports."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from fourlane.config.groups.deployment import DeploymentSettings
from fourlane.config.values import Percent, Switch, at_least, or_say

__all__ = ["ObserveSettings"]


class ObserveSettings(DeploymentSettings):
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARN", "ERROR"], or_say("no log level; use DEBUG, INFO, WARN or ERROR")
    ] = "INFO"
    log_jobs: Switch = False
    """Log a line when a job begins and when it ends."""

    metrics: Switch = False
    """Serve GET /metrics for Prometheus on the probe's port."""
    otlp_endpoint: str | None = Field(None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Where traces go over OTLP/HTTP, e.g. ``http://collector:4318``; None: nowhere."""
    otlp_metrics: Switch = False
    """Push metrics to that collector too."""
    otlp_metrics_ms: Annotated[int, at_least(1, bound=86_400_000)] = Field(
        60_000, validation_alias="OTEL_METRIC_EXPORT_INTERVAL"
    )
    """Milliseconds between two pushes."""
    trace_percent: Percent = 10
    """How many traces to keep of those with no error and under 5 s; the others are all kept."""

    sentry_dsn: SecretStr | None = Field(None, validation_alias="SENTRY_DSN")
    """Where errors of jobs are reported; None: nowhere."""
    sentry_every_attempt: Switch = False
    """Report each failed run, not only the one that made the job a dead letter."""
    sentry_percent: Percent = 100
    """How many of the reports to send."""
    sentry_traces_percent: Percent = 0
    """How many transactions Sentry gets for its performance pages; 0: none."""
    sentry_release: str | None = Field(None, validation_alias="SENTRY_RELEASE")
    """The version that reports name; None: what Sentry's client finds, e.g. git's commit."""
