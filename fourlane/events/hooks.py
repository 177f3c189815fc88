"""What others may watch: metrics, traces and logs hang themselves in here, and cost nothing where they do not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fourlane.events.envelope import Event

__all__ = ["Hooks", "add", "remove", "tell", "trace_context"]

log = logging.getLogger("fourlane.events")


class Hooks:
    """Override what you want to hear of.

    Called in the thread that does the work; an error is logged and goes no further.
    """

    def trace_context(self) -> tuple[str, str]:
        """``traceparent`` and ``tracestate`` for an event that is being published; empty for none."""
        return "", ""

    def published(self, queue: str, events: int, calls: int, seconds: float) -> None:
        """SQS accepted events."""

    def buffered(self, queue: str, events: int) -> None:
        """SQS could not be reached, and events went into the local buffer."""

    def received(self, queue: str, events: int, seconds: float) -> None:
        """One receive; ``seconds`` is how long it took."""

    def accepted(self, queue: str, jobs: int, known: int) -> None:
        """Redis accepted jobs; ``known`` of them it had before."""

    def handling(self, event: Event, handler: str) -> None:
        """A handler begins."""

    def handled(self, event: Event, handler: str, seconds: float, error: BaseException | None) -> None:
        """A handler ended."""

    def buried(self, queue: str, reason: str) -> None:
        """A message went to the dead-letter queue."""

    def called(self, action: str) -> None:
        """One billed call of SQS."""


_all: list[Hooks] = []


def add(hooks: Hooks) -> None:
    """Call these hooks from now on."""
    _all.append(hooks)


def remove(hooks: Hooks) -> None:
    _all.remove(hooks)


def tell(what: str, *args: object) -> None:
    """Call one hook of all."""
    for hooks in _all:
        try:
            getattr(hooks, what)(*args)
        except Exception:
            log.exception("%s of %r failed", what, hooks)


def trace_context() -> tuple[str, str]:
    """What the first of the hooks that knows says."""
    for hooks in _all:
        found = hooks.trace_context()
        if found[0]:
            return found
    return "", ""
