"""The pipe by which a supervisor speaks to its processes."""

from __future__ import annotations

import os
import signal

from fourlane.worker.process.child import Child
from fourlane.worker.process.options import Options
from fourlane.worker.process.protocol import CANNOT_START, Told
from tests.workers import Workers, eventually


def test_a_process_that_does_not_listen_holds_up_nobody() -> None:
    child = Child(0, Options())
    try:
        os.kill(child.process.pid, signal.SIGSTOP)
        told = Told(cancelled=[f"{number:014}" for number in range(1_000)])
        for _ in range(20):
            child.tell(told)  # a pipe takes some 64 KB; this would wait for ever
    finally:
        child.process.kill()
        child.process.wait(10)
        child.close()


def test_a_process_gets_all_of_a_specification_that_does_not_fit_into_its_pipe_at_once() -> None:
    child = Child(0, Options(modules=["no_such_module"], services=["a"] * 50_000))
    try:
        assert not child.tell(Told(cancelled=["1"]))  # it is dropped, and told again
        eventually(lambda: child.flush() or child.process.poll() is not None)
        assert child.process.wait(30) == CANNOT_START  # it has read its specification
    finally:
        child.process.kill()
        child.process.wait(10)
        child.close()


def test_programs_that_tasks_start_do_not_read_the_supervisors_pipe(workers: Workers) -> None:
    workers.start("--slots", "1")
    workers.send("read_stdin", "r")
    eventually(lambda: workers.is_done("r"))
