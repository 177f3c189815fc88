"""The worker's fixtures, for tests of tasks that need one."""

from tests.worker.conftest import run_worker

__all__ = ["run_worker"]
