"""Turns on what the settings say."""

from __future__ import annotations

import importlib.util
from typing import Any, Final
from urllib.parse import urlsplit

from fourlane.errors import SettingsError
from fourlane.observe import logs
from fourlane.observe.setup import Observe, observe_of
from fourlane.redact import know
from fourlane.telling import Observer, tell

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
    """Readable at a developer's, JSON elsewhere; what is hidden is known from here on."""
    know(observe.hidden)
    logs.configure(level=observe.log_level, json=observe.environment != "local", service=observe.service, stream=stream)


def begin(observe: Observe, *, name: str = "", metrics_folder: str = "") -> None:
    """Turn everything on in a worker process."""
    from fourlane.observe.threads import follow_threads

    follow_threads()
    if metrics_folder:
        _hear("metrics", _metrics(metrics_folder, name))
    _begin_telling(observe)


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
    if _is_there("opentelemetry.trace"):  # which the program may have set up by itself
        from fourlane.observe.current import CurrentTrace

        _hear("traces", [CurrentTrace()])
    _begin_telling(observe)


def _begin_telling(observe: Observe) -> None:
    if observe.otlp_endpoint:
        from fourlane.observe import traces

        _hear("traces", traces.begin(observe))
    if observe.sentry_dsn:
        from fourlane.observe import sentry

        _hear("errors", [sentry.begin(observe)])


def _metrics(folder: str, name: str) -> list[Observer]:
    from fourlane.observe.counts import RunCounts
    from fourlane.observe.meter import Meter, Writer

    meter = Meter()
    return [meter, RunCounts(meter), Writer(meter, folder, name)]


_heard: dict[str, list[Observer]] = {}


def _hear(part: str, observers: list[Observer]) -> None:
    """Add what a part is made of. A second start, as of a module that a worker imports, takes the first one's place."""
    for observer in _heard.pop(part, ()):
        tell.remove(observer)
    _heard[part] = observers
    for observer in observers:
        tell.add(observer)
