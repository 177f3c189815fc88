"""Several processes under one supervisor: each serves, and what becomes of its place when it dies."""

from __future__ import annotations

import os
import resource
import signal

from fourlane.job import State
from fourlane.queues import browse
from tests.servers import free_port
from tests.workers import Workers, ask, eventually


def test_three_processes_serve_and_outlive_each_other(workers: Workers) -> None:
    supervisor = workers.start("--processes", "3", "--slots", "1")
    names = [f"h{number}" for number in range(3)]
    for name in names:
        workers.send("hold", name)
    first = [eventually(lambda name=name: workers.said("begun", name))[0] for name in names]  # type: ignore[misc]
    assert set(first) == workers.children(supervisor)
    assert len(set(first)) == 3
    os.kill(first[0], signal.SIGKILL)
    eventually(lambda: len(workers.said("begun", names[0])) == 2)
    for name in names:
        workers.open_gate(name)
    eventually(lambda: all(workers.is_done(name) for name in names))
    assert workers.said("done", names[1]) + workers.said("done", names[2]) == first[1:]
    assert len(workers.children(supervisor)) == 3
    # The list of workers follows at once, and keeps no dead ones.
    eventually(lambda: {w.pid for w in browse.workers(workers.broker.store)} == workers.children(supervisor))
    supervisor.terminate()
    assert supervisor.wait(30) == 0
    assert browse.workers(workers.broker.store) == []


def test_a_process_that_dies_at_every_start_is_started_less_and_less_often(workers: Workers) -> None:
    (workers.folder / "deadly.py").write_text("import os\nos._exit(3)\n")
    port = free_port()
    supervisor = workers.start(module="deadly", until="next start in 2.0 s", FOURLANE_PROBE_PORT=str(port))
    log = workers.log(supervisor)
    assert [f"next start in {pause} s" in log for pause in (0.5, 1.0, 2.0)] == [True] * 3
    assert log.count("exit code 3") == 3
    assert (ask(port, "live")[0], ask(port, "ready")[0]) == (200, 503)
    supervisor.terminate()
    assert supervisor.wait(30) == 0


def test_a_task_that_ends_its_process_with_exit_code_0_counts_a_crash(workers: Workers) -> None:
    workers.start(FOURLANE_CRASH_LIMIT="1")
    sent = workers.send("leave", "l")
    eventually(lambda: sent.status() is State.DEAD)
    assert sent.info().reason == "poison"


FAILING_LOOP = """
import threading, time
from fourlane.worker.loop.loop import Loop

def run(self):
    threading.Thread(target=time.sleep, args=[60]).start()  # Python would wait for it
    raise RuntimeError("as planned")

Loop.run = run
"""


def test_out_of_descriptors_the_supervisor_says_so_and_tries_again(workers: Workers) -> None:
    """It can start no process, and opens no file; what it watches has not changed for that."""
    supervisor = workers.start("--watch")
    [process] = workers.children(supervisor)
    usual = resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (3, usual[1]))
    os.kill(process, signal.SIGKILL)
    eventually(lambda: workers.log(supervisor).count("process 0 cannot be started") >= 2)
    assert "Too many open files" in workers.log(supervisor)
    assert supervisor.poll() is None
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, usual)
    workers.send("quick", "after")
    eventually(lambda: workers.said("done", "after"))
    log = workers.log(supervisor)
    assert "reload" not in log
    assert "Traceback" not in log


def test_a_process_whose_loop_fails_ends_at_once(workers: Workers) -> None:
    (workers.folder / "failing_loop.py").write_text(FAILING_LOOP)
    supervisor = workers.start(module="failing_loop", until="next start in 1.0 s")
    assert "exit code 70" in workers.log(supervisor)
    assert "RuntimeError: as planned" in workers.log(supervisor)
