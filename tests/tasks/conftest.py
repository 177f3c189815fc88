"""The worker's fixtures, for tests of tasks that need one."""

from tests.worker.conftest import broker, run_worker

__all__ = ["broker", "run_worker"]
