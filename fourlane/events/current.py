"""The event whose handler runs here."""

from __future__ import annotations

from contextvars import ContextVar

from fourlane.events.envelope import Event
from fourlane.telling import tell

__all__ = ["current_event", "handled", "trace"]

handled: ContextVar[Event | None] = ContextVar("fourlane_current_event", default=None)


def current_event() -> Event | None:
    """The event whose handler runs here; None outside of one."""
    return handled.get()


def trace() -> tuple[str, str]:
    """The trace that an event published here belongs to: what observers say, else that of the event handled here."""
    found = tell.trace_context()
    event = current_event()
    if not found[0] and event is not None:
        return event.traceparent, event.tracestate
    return found
