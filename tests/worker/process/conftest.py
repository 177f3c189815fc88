"""Real workers, for all that is told of processes."""

from tests.workers import workers

__all__ = ["workers"]
