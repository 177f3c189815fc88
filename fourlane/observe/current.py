"""The trace that runs here, by OpenTelemetry's API alone: a program may have set that up by itself."""

from __future__ import annotations

from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from fourlane.telling import Observer

__all__ = ["CurrentTrace"]

_propagator = TraceContextTextMapPropagator()


class CurrentTrace(Observer):
    """Tells it to log lines and to events."""

    def trace_context(self) -> tuple[str, str]:
        carried = self.carried()
        return carried.get("traceparent", ""), carried.get("tracestate", "")

    def carried(self) -> dict[str, str]:
        """What goes along with a message; nothing where no span is active."""
        found: dict[str, str] = {}
        _propagator.inject(found)
        return found
