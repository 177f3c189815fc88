"""What a program's middleware hears of jobs, in which order, and in which thread."""

from __future__ import annotations

from typing import Final

from dramatiq.middleware import AgeLimit, Middleware, Retries, ShutdownNotifications, TimeLimit

from fourlane.queues.broker import NATIVE

__all__ = ["in_order_of_after", "is_told", "keeps_thread"]

_OF_JOBS: Final = (
    "before_process_message",
    "after_process_message",
    "after_skip_message",
    "before_ack",
    "after_ack",
    "before_nack",
    "after_nack",
    "before_enqueue",
    "after_enqueue",
)
"""Signals that come where jobs run; those of enqueueing too, for a retry is one."""

_LEAVE_THREAD: Final = frozenset(
    (
        "dramatiq.middleware.current_message.CurrentMessage",
        "dramatiq.middleware.group_callbacks.GroupCallbacks",
        "dramatiq.middleware.prometheus.Prometheus",
        "dramatiq.results.middleware.Results",
        "sentry_sdk.integrations.dramatiq.SentryMiddleware",
    )
)
"""Middleware that keeps nothing by the thread: others may do, and so may what they call."""


def is_told(middleware: Middleware) -> bool:
    """It hears of jobs, and its work is not done by the worker itself."""
    kind = type(middleware)
    return kind not in NATIVE and any(_overrides(kind, signal) for signal in _OF_JOBS)


def _overrides(kind: type[Middleware], signal: str) -> bool:
    return getattr(kind, signal, None) is not getattr(Middleware, signal)


def keeps_thread(middleware: Middleware) -> bool:
    """It interrupts the thread, or keeps a state by it, unless it is known or says that it does not."""
    kind = type(middleware)
    known = f"{kind.__module__}.{kind.__qualname__}" in _LEAVE_THREAD
    return bool(getattr(middleware, "keeps_thread", not known))


_WITHOUT_AFTER: Final = (AgeLimit, TimeLimit, ShutdownNotifications)


def in_order_of_after(middleware: list[Middleware]) -> list[Middleware | None]:
    """Who hears that a message was processed, as dramatiq orders them: who was added last comes first.

    None stands for the verdict: what the end means for the job. That is ``Retries``' turn; where there is none, the
    verdict comes before all.
    """
    order: list[Middleware | None] = []
    for m in reversed(middleware):
        if type(m) is Retries:
            order += [] if None in order else [None]
        elif type(m) not in _WITHOUT_AFTER and _overrides(type(m), "after_process_message"):
            order.append(m)
    return order if None in order else [None, *order]
