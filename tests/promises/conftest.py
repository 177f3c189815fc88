"""Workers of both kinds: the command, with real processes, and loops in threads of the test."""

from tests.worker.conftest import run_worker
from tests.workers import workers

__all__ = ["run_worker", "workers"]
