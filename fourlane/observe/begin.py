"""Turns on what the settings say."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from fourlane.errors import SettingsError
from fourlane.observe import logs
from fourlane.observe.setup import Observe, observe_of

if TYPE_CHECKING:
    from fourlane.observe.observer import WorkerObserver

__all__ = ["begin", "check", "configure_logs", "start"]

_NEEDED: Final = {
    "metrics": ("prometheus_client", "prometheus", "FOURLANE_METRICS"),
    "otlp_metrics": ("prometheus_client", "prometheus", "FOURLANE_OTLP_METRICS"),  # it has the families
    "otlp_endpoint": ("opentelemetry.exporter.otlp.proto.http", "otel", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "sentry_dsn": ("sentry_sdk", "sentry", "SENTRY_DSN"),
}


def check(observe: Observe) -> None:
    """Raises SettingsError: something is on whose library is not installed, or that has nowhere to go."""
    if observe.otlp_metrics and not observe.otlp_endpoint:
        raise SettingsError("FOURLANE_OTLP_METRICS: no collector is named; set OTEL_EXPORTER_OTLP_ENDPOINT")
    for field, (module, extra, variable) in _NEEDED.items():
        if getattr(observe, field) and not _is_there(module):
            raise SettingsError(f"{variable} needs a library that is not installed: pip install 'fourlane[{extra}]'")
    if observe.sentry_dsn and not _is_dsn(observe.sentry_dsn):
        raise SettingsError("SENTRY_DSN: is no DSN; copy it from the project's client keys")


def _is_dsn(text: str) -> bool:
    """Whether Sentry's client would take it. Asked here, so that it need not be loaded to know."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    project = parts.path.rpartition("/")[2]
    return parts.scheme in ("http", "https") and bool(parts.username and parts.hostname) and project.isdecimal()


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent
        return False


def configure_logs(observe: Observe, stream: Any = None) -> None:
    """Readable at a developer's, JSON elsewhere."""
    logs.configure(level=observe.log_level, json=observe.environment != "local", service=observe.service, stream=stream)


def begin(observe: Observe, *, name: str = "", metrics_folder: str = "") -> WorkerObserver | None:
    """Turn everything on in a worker process; None when there is nothing to tell anybody."""
    from fourlane.observe.threads import follow_threads

    follow_threads()
    if not (metrics_folder or observe.otlp_endpoint or observe.sentry_dsn):
        return None
    from fourlane.observe.metrics import Writer
    from fourlane.observe.observer import WorkerObserver

    writer = Writer(metrics_folder, name) if metrics_folder else None
    return WorkerObserver(writer, _spans(observe), _reports(observe))


def start(**overrides: Any) -> None:
    """Turn on logs, traces and error reports in a program of yours, such as a web tier, as the settings say.

    Parameters:
      **overrides: settings by field name, as for `load_settings`; ``service`` names the program.

    Raises:
      SettingsError
    """
    from fourlane.config import load_settings

    observe = observe_of(load_settings(**overrides))
    check(observe)
    configure_logs(observe)
    _spans(observe)
    _reports(observe)


def _spans(observe: Observe) -> Any:
    if not observe.otlp_endpoint:
        return None
    from fourlane.observe import traces

    return traces.begin(observe)


def _reports(observe: Observe) -> Any:
    if not observe.sentry_dsn:
        return None
    from fourlane.observe import sentry

    return sentry.begin(observe)
