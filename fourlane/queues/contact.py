"""Whether a server could be reached without a break: who wants to say of another that it is silent must know."""

from __future__ import annotations

from typing import Final

from fourlane.queues.beat import SILENCE_MS

__all__ = ["STEP_SECONDS", "Contact"]

STEP_SECONDS: Final = 2.0
"""Whoever watches another hears from Redis at least so often."""
_BREAK_SECONDS: Final = 2.5


class Contact:
    """When Redis answered us.

    A worker whose silence is over may only be taken for dead by somebody whom Redis answered all through one whole
    silence: after an outage, a pause of the server or one of our own, everybody has that long to be heard again.
    """

    def __init__(self, now: float) -> None:
        self._since = now
        self.heard_at = now

    def heard(self, now: float) -> None:
        """Redis answered."""
        if now - self.heard_at > _BREAK_SECONDS:
            self._since = now
        self.heard_at = now

    def broke(self, now: float) -> None:
        """A connection was lost, or a call not answered."""
        self._since = self.heard_at = now

    def whole_silence_at(self, now: float) -> float:
        """The moment from which a silence is proof; past when it is already."""
        since = now if now - self.heard_at > _BREAK_SECONDS else self._since
        return since + SILENCE_MS / 1000
