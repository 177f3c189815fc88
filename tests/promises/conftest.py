"""Workers of both kinds: the command, with real processes, and loops in threads of the test."""

from tests.worker.conftest import loop_kind, run_worker
from tests.workers import workers

__all__ = ["loop_kind", "run_worker", "workers"]
