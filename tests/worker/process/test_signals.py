"""What signals mean to a worker, whoever sends them and whenever they come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fourlane.job import State
from tests.workers import Workers, alive, eventually


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_is_graceful(workers: Workers, number: signal.Signals) -> None:
    """A terminal sends Ctrl-C to the group, systemd SIGTERM to every process of a service."""
    process = workers.start("--slots", "1", "--processes", "2")
    workers.send("hold", "h")
    (pid,) = eventually(lambda: workers.said("begun", "h"))
    os.killpg(process.pid, number)
    eventually(lambda: len(workers.children(process)) == 1)
    assert workers.children(process) == {pid}
    workers.open_gate("h")
    assert process.wait(30) == 0, workers.log(process)
    assert workers.said("done", "h") == [pid]
    assert "died" not in workers.log(process)
    assert "Traceback" not in workers.log(process)


def test_a_second_ctrl_c_stops_at_once(workers: Workers) -> None:
    process = workers.start("--slots", "2")
    held = [workers.send("hold", name) for name in "ab"]
    eventually(lambda: all(workers.said("begun", name) for name in "ab"))
    os.killpg(process.pid, signal.SIGINT)
    workers.wait_for(process, "stopping:")
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130, workers.log(process)
    for sent in held:
        info = sent.info()
        assert (info.state, info.attempts, info.crashes) == (State.READY, 0, 0)


def test_ctrl_c_while_the_processes_start(workers: Workers) -> None:
    process = workers.start("--processes", "2", until="redis:")
    eventually(lambda: len(workers.children(process)) == 2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 0, workers.log(process)
    assert "Traceback" not in workers.log(process)
    assert "died" not in workers.log(process)


def test_a_process_killed_while_it_stops_makes_exit_code_1(workers: Workers) -> None:
    process = workers.start("--slots", "1")
    sent = workers.send("hold", "h")
    (pid,) = eventually(lambda: workers.said("begun", "h"))
    process.terminate()
    workers.wait_for(process, "stopping:")
    os.kill(pid, signal.SIGKILL)
    assert process.wait(30) == 1
    assert (sent.status(), sent.info().crashes) == (State.READY, 1)


def test_a_closed_terminal_stops_the_worker(workers: Workers) -> None:
    """Its SIGHUP means no reload: nobody could stop the worker any more."""
    terminal, inside = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL],
        cwd=workers.folder,
        env=workers.env,
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    workers.started.append(process)
    os.close(inside)
    shown = b""
    while b"ready:" not in shown:
        shown += os.read(terminal, 4096)
    (pid,) = workers.children(process)
    os.close(terminal)
    assert process.wait(30) == 0
    eventually(lambda: not alive(pid))


ON_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv = ["fourlane", "worker", "held_tasks"]
from fourlane.cli import main
main()
"""


BETWEEN = """
import os, signal, sys
from fourlane.cli import main

become = os.execv

def signalled_first(*how):
    os.kill(os.getpid(), signal.Signals[os.environ["COMES"]])
    become(*how)

os.execv = signalled_first
main(prog_name="fourlane")
"""


@pytest.mark.parametrize(("comes", "code", "told"), [("SIGTERM", 0, ""), ("SIGINT", 1, "Aborted!")])
def test_a_signal_that_comes_while_the_command_becomes_its_supervisor_ends_it(
    workers: Workers, comes: str, code: int, told: str
) -> None:
    process = workers.start(program=BETWEEN, COMES=comes)
    assert process.wait(30) == code
    assert workers.log(process).strip() == told


def test_one_that_means_nothing_yet_is_heard_and_ignored(workers: Workers) -> None:
    process = workers.start(program=BETWEEN, COMES="SIGHUP")
    assert "SIGHUP: this worker is still starting; ignored\n" in workers.log(process)
    assert Path(f"/proc/{process.pid}/comm").exists()
    process.terminate()
    assert process.wait(30) == 0
