"""What a worker tells of its work, to whoever counts, traces or reports it."""

from __future__ import annotations

from typing import Protocol

from fourlane.outcome import Outcome
from fourlane.worker.run.run import Run

__all__ = ["Observer"]


class Observer(Protocol):
    """Told by one worker process. No method may raise, and none may take long: jobs wait meanwhile."""

    begins: bool
    """Whether `began` wants to be called."""

    def began(self, run: Run) -> None:
        """A job with options begins, in its thread or coroutine."""

    def failed(self, run: Run, error: BaseException, outcome: Outcome) -> None:
        """A run ended with an error, in its thread or coroutine."""

    def turned(self, service: str, ended: list[tuple[Run, Outcome]]) -> None:
        """A turn is about to settle these runs. In the loop's thread."""

    def pause(self, now: float) -> float | None:
        """The loop is about to sleep; returns by when it shall call again, None when it need not."""

    def close(self) -> None:
        """The worker ends."""
