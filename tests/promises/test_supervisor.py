"""The supervisor: reload, recycle, hard limit, stop, restart, beat and probe, with real processes."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fourlane.job import State
from fourlane.queues import browse, doctor
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.status import judge, look
from fourlane.queues.store import Store
from fourlane.worker.process.child import Child
from fourlane.worker.process.code_changes import CodeChanges
from fourlane.worker.process.options import Options
from fourlane.worker.process.protocol import CANNOT_START, Told
from fourlane.worker.process.supervisor import Supervisor
from tests.conftest import StartServer
from tests.promises.conftest import Workers, alive, eventually
from tests.servers import Server, free_port

VERSION = """
import fourlane
from held_tasks import say

@fourlane.task
def version(name):
    say("{}", name)
"""


def write_version(workers: Workers, word: str) -> None:
    (workers.folder / "versions.py").write_text(VERSION.format(word))


def wait_for_words(workers: Workers, process: subprocess.Popen[bytes], words: str, seconds: float = 10) -> None:
    eventually(lambda: words in workers.log(process), seconds)


def is_done(workers: Workers, name: str, times: int = 1) -> bool:
    return len(workers.said("done", name)) == times


# New code ---------------------------------------------------------------------------------------------------


def test_watch_runs_the_new_code_and_outlives_broken_code(workers: Workers) -> None:
    workers.env.pop("PYTHONDONTWRITEBYTECODE", None)
    workers.env["PYTHONPYCACHEPREFIX"] = str(workers.folder / "cache")
    write_version(workers, "one")
    supervisor = workers.start("--watch", module="versions")
    workers.send("version", "a")
    eventually(lambda: workers.said("one", "a"))
    first = (workers.folder / "versions.py").stat().st_mtime_ns
    write_version(workers, "two")
    # As long as before and in the same second: for Python's cache it is the same file.
    second = first // 10**9 * 10**9 + (first + 1) % 10**9
    os.utime(workers.folder / "versions.py", ns=(second, second))
    wait_for_words(workers, supervisor, "versions.py changed")
    workers.send("version", "b")
    eventually(lambda: workers.said("two", "b") or workers.said("one", "b"), 10)
    eventually(lambda: workers.send("version", "c") and workers.said("two", "c"), 10, interval=0.2)
    (workers.folder / "versions.py").write_text("def broken(:\n")
    wait_for_words(workers, supervisor, "waits for the next change")
    assert "Traceback" not in workers.log(supervisor)
    assert "versions.py, line 1" in workers.log(supervisor)
    assert supervisor.poll() is None
    waiting = workers.send("version", "d")
    write_version(workers, "six")
    eventually(lambda: workers.said("six", "d"), 10)
    eventually(lambda: waiting.status() is State.UNKNOWN)


def test_watch_waits_for_the_repair_of_code_that_never_ran(workers: Workers) -> None:
    (workers.folder / "versions.py").write_text("no such name")
    supervisor = workers.start("--watch", module="versions", until="waits for the next change")
    write_version(workers, "one")
    wait_for_words(workers, supervisor, "ready:", 10)
    supervisor.terminate()
    assert supervisor.wait(10) == 0


def test_what_a_watch_sees(tmp_path: Path) -> None:
    for folder in ("app", "venv", ".git", "node_modules"):
        (tmp_path / folder).mkdir()
    (tmp_path / "venv/pyvenv.cfg").touch()
    (tmp_path / "app/tasks.py").write_text("one")
    watch = CodeChanges(tmp_path)
    assert watch.changed() == []
    for ignored in ("notes.txt", "venv/x.py", ".git/x.py", "node_modules/x.py", "app/.#tasks.py"):
        (tmp_path / ignored).write_text("x")
    assert watch.changed() == []
    (tmp_path / "app/new.py").touch()
    (tmp_path / "app/tasks.py").write_text("two")
    assert watch.changed() == ["app/new.py", "app/tasks.py"]
    (tmp_path / "app/new.py").unlink()
    assert watch.changed() == ["app/new.py"]
    assert watch.changed() == []


def test_sighup_restarts_one_process_after_the_other(workers: Workers) -> None:
    write_version(workers, "old")
    supervisor = workers.start("held_tasks", "--processes", "2", "--slots", "2", module="versions")
    held = _one_held_job_in_each_process(workers)
    old = set(held)
    write_version(workers, "new!")
    supervisor.send_signal(signal.SIGHUP)
    wait_for_words(workers, supervisor, "one by one")
    time.sleep(0.5)  # room for a mistake: both told to stop
    workers.send("quick", "meanwhile")
    (second,) = eventually(lambda: workers.said("done", "meanwhile"))
    (first,) = old - {second}
    assert alive(first)
    workers.open_gate(held[first])
    eventually(lambda: not alive(first))
    # The new process serves before the second old one stops.
    served = eventually(lambda: workers.send("version", "v") and workers.said("new!", "v"), 10, interval=0.1)
    assert served[0] not in old
    assert alive(second)
    workers.open_gate(held[second])
    eventually(lambda: len(workers.children(supervisor)) == 2 and not workers.children(supervisor) & old, 10)
    for pid, name in held.items():
        assert (workers.said("begun", name), workers.said("done", name)) == ([pid], [pid])
    supervisor.terminate()
    assert supervisor.wait(10) == 0
    assert "died" not in workers.log(supervisor)


def _one_held_job_in_each_process(workers: Workers) -> dict[int, str]:
    """Two processes of two slots: the name of the one job that each holds, by process id."""
    for name in "xyz":
        workers.send("hold", name)
    eventually(lambda: all(workers.said("begun", name) for name in "xyz"))
    held: dict[int, str] = {}
    for name in "xyz":
        (pid,) = workers.said("begun", name)
        if pid in held:
            workers.open_gate(name)
            eventually(lambda name=name: is_done(workers, name))  # type: ignore[misc]
        else:
            held[pid] = name
    assert len(held) == 2
    return held


def test_a_reload_of_broken_code_leaves_the_others_serving(workers: Workers) -> None:
    write_version(workers, "old")
    supervisor = workers.start("--processes", "2", module="versions")
    old = workers.children(supervisor)
    (workers.folder / "versions.py").write_text("raise RuntimeError('half deployed')\n")
    supervisor.send_signal(signal.SIGHUP)
    wait_for_words(workers, supervisor, "half deployed")
    wait_for_words(workers, supervisor, "next start in 1.0 s")
    workers.send("version", "a")
    (pid,) = eventually(lambda: workers.said("old", "a"))
    assert pid in old
    write_version(workers, "new")
    supervisor.send_signal(signal.SIGHUP)
    eventually(lambda: len(workers.children(supervisor)) == 2 and not workers.children(supervisor) & old, 15)
    workers.send("version", "b")
    eventually(lambda: workers.said("new", "b"))


# Recycling --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "limit", "task"),
    [
        ("FOURLANE_RECYCLE_JOBS", "5", ("quick",)),
        ("FOURLANE_RECYCLE_SECONDS", "2", ("quick",)),
        ("FOURLANE_RECYCLE_RSS_MB", "250", ("swell", 60)),  # an idle process has some 60 MB
    ],
)
def test_recycling(workers: Workers, setting: str, limit: str, task: tuple[Any, ...]) -> None:
    supervisor = workers.start("--slots", "2", **{setting: limit})
    (old,) = workers.children(supervisor)
    held = workers.send("hold", "h")
    eventually(lambda: workers.said("begun", "h"))
    sent = 0

    def recycled() -> bool:
        return "recycle" in workers.log(supervisor)

    while not recycled():
        workers.send(task[0], f"n{sent}", *task[1:])
        sent += 1
        # One that comes when the old process takes no more runs in the new one.
        eventually(lambda name=f"n{sent - 1}": is_done(workers, name) or recycled())  # type: ignore[misc]
        time.sleep(0.1)
    workers.send("quick", "after")
    workers.open_gate("h")
    (new,) = eventually(lambda: workers.said("done", "after"), 10)
    assert new != old
    assert not alive(old)
    assert workers.said("begun", "h") == workers.said("done", "h") == [old]  # it had its grace
    assert held.status() is State.UNKNOWN
    eventually(lambda: all(is_done(workers, f"n{number}") for number in range(sent)))
    assert "died" not in workers.log(supervisor)


# The hard limit ---------------------------------------------------------------------------------------------


def test_the_hard_limit_ends_a_job_that_holds_the_interpreter(workers: Workers) -> None:
    supervisor = workers.start("--slots", "3")
    neighbour = workers.send("hold", "n")
    eventually(lambda: workers.said("begun", "n"))
    seizing = workers.send("seize_too_long", "s")
    eventually(lambda: seizing.status() is State.DEAD, 30)
    info = seizing.info()
    assert (info.reason, info.crashes) == ("poison", 3)
    assert "hard limit" in info.detail
    assert len(workers.said("begun", "s")) == 3
    workers.open_gate("n")
    eventually(lambda: is_done(workers, "n"), 10)
    eventually(lambda: neighbour.status() is State.UNKNOWN, 10)
    assert f"hard-limit job={seizing.id}" in workers.log(supervisor)


def test_neighbours_of_an_overdue_job_count_no_crash(workers: Workers) -> None:
    workers.start("--slots", "3", FOURLANE_CRASH_LIMIT="1")
    neighbour = workers.send("hold", "n")
    eventually(lambda: workers.said("begun", "n"))
    seizing = workers.send("seize_too_long", "s")
    eventually(lambda: seizing.status() is State.DEAD, 10)
    eventually(lambda: len(workers.said("begun", "n")) == 2, 10)
    info = neighbour.info()
    assert (info.state, info.crashes, info.attempts) == (State.RUNNING, 0, 0)
    workers.open_gate("n")
    eventually(lambda: neighbour.status() is State.UNKNOWN)


def test_the_hard_limit_of_the_settings(workers: Workers) -> None:
    workers.start(FOURLANE_HARD_TIMEOUT_MS="800", FOURLANE_CRASH_LIMIT="1")
    seizing = workers.send("seize_by_setting", "s")
    eventually(lambda: seizing.status() is State.DEAD, 10)
    assert seizing.info().reason == "poison"


STUBBORN = """
import time
import fourlane
from held_tasks import db, me, say

@fourlane.task(timeout_ms=100)
def stubborn(name):
    say("begun", name)
    while not db.exists(f"{me}:gate:{name}"):
        try:
            time.sleep(0.02)
        except BaseException:
            pass
"""


def test_a_job_that_runs_past_its_own_limit_is_told(workers: Workers) -> None:
    (workers.folder / "stubborn.py").write_text(STUBBORN)
    workers.start("stubborn")
    sent = workers.send("stubborn", "s")
    store = workers.broker.store
    (trouble,) = eventually(lambda: [t for t in judge(look(store)) if t.rule == "JobOverrun"], 20, interval=0.2)
    assert f"job {sent.id} (stubborn) has run" in trouble.text
    found = [f for f in doctor.examine(store, workers=browse.workers(store)) if f.name == "jobs"]
    assert [f.level for f in found] == [doctor.Level.ERROR]
    workers.open_gate("s")
    eventually(lambda: not [t for t in judge(look(store)) if t.rule == "JobOverrun"], 5, interval=0.2)


# Stop -------------------------------------------------------------------------------------------------------


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
    assert process.wait(10) == 0, workers.log(process)
    assert workers.said("done", "h") == [pid]
    assert "died" not in workers.log(process)
    assert "Traceback" not in workers.log(process)


def test_a_second_ctrl_c_stops_at_once(workers: Workers) -> None:
    process = workers.start("--slots", "2")
    held = [workers.send("hold", name) for name in "ab"]
    eventually(lambda: all(workers.said("begun", name) for name in "ab"))
    os.killpg(process.pid, signal.SIGINT)
    wait_for_words(workers, process, "stopping:")
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(5) == 130, workers.log(process)
    for sent in held:
        info = sent.info()
        assert (info.state, info.attempts, info.crashes) == (State.READY, 0, 0)


def test_ctrl_c_while_the_processes_start(workers: Workers) -> None:
    process = workers.start("--processes", "2", until="redis:")
    eventually(lambda: len(workers.children(process)) == 2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(10) == 0, workers.log(process)
    assert "Traceback" not in workers.log(process)
    assert "died" not in workers.log(process)


def test_a_process_killed_while_it_stops_makes_exit_code_1(workers: Workers) -> None:
    process = workers.start("--slots", "1")
    sent = workers.send("hold", "h")
    (pid,) = eventually(lambda: workers.said("begun", "h"))
    process.terminate()
    wait_for_words(workers, process, "stopping:")
    os.kill(pid, signal.SIGKILL)
    assert process.wait(10) == 1
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
    assert process.wait(10) == 0
    eventually(lambda: not alive(pid))


ON_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv = ["fourlane", "worker", "held_tasks"]
from fourlane.cli import main
main()
"""


# Restart ----------------------------------------------------------------------------------------------------


def test_three_processes_serve_and_outlive_each_other(workers: Workers) -> None:
    supervisor = workers.start("--processes", "3", "--slots", "1")
    names = [f"h{number}" for number in range(3)]
    for name in names:
        workers.send("hold", name)
    first = [eventually(lambda name=name: workers.said("begun", name))[0] for name in names]  # type: ignore[misc]
    assert set(first) == workers.children(supervisor)
    assert len(set(first)) == 3
    os.kill(first[0], signal.SIGKILL)
    eventually(lambda: len(workers.said("begun", names[0])) == 2, 5)
    for name in names:
        workers.open_gate(name)
    eventually(lambda: all(is_done(workers, name) for name in names))
    assert workers.said("done", names[1]) + workers.said("done", names[2]) == first[1:]
    assert len(workers.children(supervisor)) == 3
    # The list of workers follows at once, and keeps no dead ones.
    eventually(lambda: {w.pid for w in browse.workers(workers.broker.store)} == workers.children(supervisor))
    supervisor.terminate()
    assert supervisor.wait(10) == 0
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
    assert supervisor.wait(10) == 0


def test_jobs_that_kill_their_process_hold_up_no_others(workers: Workers) -> None:
    """Each is a dead letter soon; a pause after each death would make all the others wait."""
    supervisor = workers.start("--slots", "1", FOURLANE_CRASH_LIMIT="1")
    killers = []
    for number in range(4):
        killers.append(workers.send("kill", f"k{number}"))
        for good in range(50):
            workers.send("quick", f"q{number}-{good}")
    eventually(lambda: workers.broker.client.hlen(workers.broker.store.service("default").jobs) == 4, 20)
    assert [sent.info().reason for sent in killers] == ["poison"] * 4
    assert all(workers.said("done", f"q{number}-{good}") for number in range(4) for good in range(50))
    assert workers.log(supervisor).count("killed by SIGKILL (") <= 4
    assert "next start in" not in workers.log(supervisor)


def test_a_task_that_ends_its_process_with_exit_code_0_counts_a_crash(workers: Workers) -> None:
    workers.start(FOURLANE_CRASH_LIMIT="1")
    sent = workers.send("leave", "l")
    eventually(lambda: sent.status() is State.DEAD, 3)  # silence would take 5 s
    assert sent.info().reason == "poison"


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("import sys\nsys.exit('not now')\n", "SystemExit: not now ("),
        ("x = 1\nx.y\n", "AttributeError: 'int' object has no attribute 'y' ("),
        ("import fourlane\n\n@fourlane.task(tier='P9')\ndef t(): ...\n", "'P9'"),
    ],
)
def test_why_a_module_does_not_import_is_told_in_a_line(workers: Workers, source: str, line: str) -> None:
    (workers.folder / "faulty.py").write_text(source)
    process = workers.start(module="faulty")
    assert process.wait(10) == 78
    (told,) = [text for text in workers.log(process).splitlines() if "cannot start" in text]
    assert line in told
    assert "faulty.py, line" in told
    assert "Traceback" not in workers.log(process)


# Processes that do not work ---------------------------------------------------------------------------------

HANGING = """
import os, signal, threading
import fourlane
from held_tasks import db, me, say

never = threading.Lock()
never.acquire()
signal.signal(signal.SIGUSR2, lambda *_: never.acquire())

@fourlane.task
def hang(name):
    \"\"\"The first time, it leaves the main thread waiting for ever.\"\"\"
    say("begun", name)
    if db.set(f"{me}:hung", 1, nx=True):
        os.kill(os.getpid(), signal.SIGUSR2)
"""

IMPATIENT = """
import logging, sys
from fourlane import app
from fourlane.config import load_settings
from fourlane.worker.process.options import Options
from fourlane.worker.process.supervisor import Supervisor
logging.basicConfig(level=logging.INFO)
opening = app.opening_of(load_settings())
options = Options(modules=["held_tasks", "hanging"], slots=2, hung_seconds=3.0, opening=opening)
supervisor = Supervisor(opening.open().store, options, lambda: logging.info("ready: all"))
sys.exit(supervisor.run())
"""


def test_a_process_whose_loop_hangs_is_ended_and_its_stack_told(workers: Workers) -> None:
    (workers.folder / "hanging.py").write_text(HANGING)
    supervisor = workers.start(program=IMPATIENT)
    workers.send("seize", "s", 4)  # a job that holds the interpreter is no hang
    (first,) = eventually(lambda: workers.said("done", "s"), 8)
    sent = workers.send("hang", "h")
    begun = eventually(lambda: len(pids := workers.said("begun", "h")) == 2 and pids, 15)
    assert begun[0] == first != begun[1]
    eventually(lambda: sent.status() is State.UNKNOWN)
    log = workers.log(supervisor)
    assert f"pid={first} takes no turn, though Redis answers" in log
    assert "hanging.py" in log[log.index("the worker's loop") :]
    assert workers.said("begun", "s") == [first]


UNWELL = """
from fourlane.worker.run.executor import Executor
from held_tasks import db, me

Executor.healthy = lambda self: (db.get(f"{me}:wrong") or b"").decode()
"""


def test_a_process_that_is_unwell_is_not_ready_and_ended(workers: Workers) -> None:
    (workers.folder / "unwell.py").write_text(UNWELL)
    port = free_port()
    supervisor = workers.start("unwell", FOURLANE_PROBE_PORT=str(port))
    sent = workers.send("hold", "h")
    (first,) = eventually(lambda: workers.said("begun", "h"))
    workers.db.set(f"{workers.namespace}:wrong", "its event loop ended")
    _, told = eventually(lambda: (reply := ask(port, "ready"))[0] == 503 and reply, 5)
    workers.db.delete(f"{workers.namespace}:wrong")
    assert told["processes"][0]["wrong"] == "its event loop ended"
    assert first != eventually(lambda: workers.said("begun", "h")[1:], 10)[0]
    assert sent.info().crashes == 1
    workers.open_gate("h")
    eventually(lambda: is_done(workers, "h") and ask(port, "ready")[0] == 200)
    assert f"pid={first}: its event loop ended; killing it" in workers.log(supervisor)


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
    eventually(lambda: workers.log(supervisor).count("process 0 cannot be started") >= 2, 15)
    assert "Too many open files" in workers.log(supervisor)
    assert supervisor.poll() is None
    resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, usual)
    workers.send("quick", "after")
    eventually(lambda: workers.said("done", "after"), 15)
    log = workers.log(supervisor)
    assert "reload" not in log
    assert "Traceback" not in log


def test_a_process_whose_loop_fails_ends_at_once(workers: Workers) -> None:
    (workers.folder / "failing_loop.py").write_text(FAILING_LOOP)
    supervisor = workers.start(module="failing_loop", until="next start in 1.0 s")
    assert "exit code 70" in workers.log(supervisor)
    assert "RuntimeError: as planned" in workers.log(supervisor)


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
    assert process.wait(15) == code
    assert workers.log(process).strip() == told


def test_one_that_means_nothing_yet_is_heard_and_ignored(workers: Workers) -> None:
    process = workers.start(program=BETWEEN, COMES="SIGHUP")
    assert "SIGHUP: this worker is still starting; ignored\n" in workers.log(process)
    assert Path(f"/proc/{process.pid}/comm").exists()
    process.terminate()
    assert process.wait(10) == 0


# The beat ---------------------------------------------------------------------------------------------------


def test_code_that_holds_the_interpreter_keeps_its_lease(workers: Workers) -> None:
    workers.start("--slots", "1")
    sent = workers.send("seize", "s", 7)
    eventually(lambda: workers.said("begun", "s"))
    workers.start("--slots", "1")
    eventually(lambda: workers.said("done", "s"), 12)
    eventually(lambda: sent.status() is State.UNKNOWN)
    assert len(workers.said("begun", "s")) == 1


def test_a_worker_that_slept_finds_its_jobs_taken_and_goes_on(workers: Workers) -> None:
    sleeper = workers.start("--slots", "2")
    sent = [workers.send("hold", name) for name in "ab"]
    (pid,) = {eventually(lambda name=name: workers.said("begun", name))[0] for name in "ab"}  # type: ignore[misc]
    other = workers.start("--slots", "2")
    os.killpg(sleeper.pid, signal.SIGSTOP)
    eventually(lambda: all(len(workers.said("begun", name)) == 2 for name in "ab"), 10)
    os.killpg(sleeper.pid, signal.SIGCONT)
    for name in "ab":
        workers.open_gate(name)
    eventually(lambda: all(workers.said("done", name) for name in "ab"))
    eventually(lambda: all(s.status() is State.UNKNOWN for s in sent))
    # What ran there was told that it lost its leases, or ended before; it does not count.
    eventually(lambda: "will not count" in workers.log(sleeper) or "stale" in workers.log(sleeper))
    other.terminate()
    assert other.wait(10) == 0
    workers.send("quick", "q")
    assert eventually(lambda: workers.said("done", "q")) == [pid]
    assert sleeper.poll() is None


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
        eventually(lambda: child.flush() or child.process.poll() is not None, 15)
        assert child.process.wait(15) == CANNOT_START  # it has read its specification
    finally:
        child.process.kill()
        child.process.wait(10)
        child.close()


def test_programs_that_tasks_start_do_not_read_the_supervisors_pipe(workers: Workers) -> None:
    workers.start("--slots", "1")
    workers.send("read_stdin", "r")
    eventually(lambda: is_done(workers, "r"))


# The probe --------------------------------------------------------------------------------------------------


def ask(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def test_the_probe_answers_whatever_user_code_does(workers: Workers) -> None:
    port = free_port()
    process = workers.start("--processes", "2", "--slots", "1", FOURLANE_PROBE_PORT=str(port))
    for path in ("live", "ready"):
        code, told = ask(port, path)
        assert (code, told[path]) == (200, True)
    assert {p["pid"] for p in told["processes"]} == workers.children(process)
    assert ask(port, "else")[0] == 404
    with pytest.raises(ConnectionRefusedError):  # in the environment local, on 127.0.0.1 alone
        socket.create_connection(("127.0.0.2", port), timeout=5)
    for name in "ab":
        workers.send("seize", name, 3)
    eventually(lambda: workers.said("begun", "a") and workers.said("begun", "b"))
    began = time.monotonic()
    assert ask(port, "live")[0] == ask(port, "ready")[0] == 200
    assert time.monotonic() - began < 1.5
    for name in "hi":
        workers.send("hold", name)
    eventually(lambda: workers.said("begun", "h") and workers.said("begun", "i"), 10)
    process.terminate()
    wait_for_words(workers, process, "stopping:")
    eventually(lambda: ask(port, "ready")[0] == 503)
    assert ask(port, "live")[0] == 200
    assert len(workers.children(process)) == 2  # so it is not for a missing process
    for name in "hi":
        workers.open_gate(name)
    assert process.wait(10) == 0


def test_the_probe_answers_while_redis_does_not(redis_server: Server, namespace: str, tmp_path: Path) -> None:
    workers = Workers(redis_server.url, namespace, tmp_path)
    port = free_port()
    try:
        workers.start(FOURLANE_PROBE_PORT=str(port))
        workers.send("hold", "h")
        eventually(lambda: workers.said("begun", "h"))
        redis_server.pause()
        for _ in range(40):  # meanwhile the supervisor waits for the answer to a beat
            began = time.monotonic()
            assert ask(port, "live")[0] == 200
            assert time.monotonic() - began < 1.5
            time.sleep(0.1)
        redis_server.resume()
        workers.open_gate("h")
        eventually(lambda: is_done(workers, "h"), 10)
        assert ask(port, "ready")[0] == 200
    finally:
        redis_server.resume()
        workers.close()


def test_a_process_without_a_good_turn_is_not_ready(redis_url: str) -> None:
    connector = Connector(client_of(redis_url))
    supervisor = Supervisor(Store(connector), Options())
    child = Child(0, Options())
    try:
        supervisor.children.append(child)
        assert not supervisor.health().ready  # it starts
        child.table.publish(time.monotonic() - 40, 0, 0)
        assert supervisor.health().ready
        child.table.publish(time.monotonic() - 50, 0, 0)
        assert not supervisor.health().ready
        assert supervisor.health().live
    finally:
        child.process.kill()
        child.process.wait(10)
        child.close()
        connector.close()


def test_the_probe_answers_while_a_start_waits_for_redis(workers: Workers, redis_server: Server) -> None:
    port = free_port()
    redis_server.stop()
    process = workers.start(until="trying again", REDIS_URL=redis_server.url, FOURLANE_PROBE_PORT=str(port))
    code, told = ask(port, "live")
    assert (code, told["live"]) == (200, True)
    for path in ("ready", "health", "health/cache", "metrics"):
        code, told = ask(port, path)
        assert code == 503
        assert f"127.0.0.1:{redis_server.port}" in told["starting"]
    redis_server.start()
    eventually(lambda: ask(port, "ready")[0] == 200, 15)
    assert "starting" not in ask(port, "live")[1]
    process.terminate()
    assert process.wait(10) == 0


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_probe_host_that_is_not_this_machines(workers: Workers, host: str) -> None:
    process = workers.start(FOURLANE_PROBE_PORT=str(free_port()), FOURLANE_PROBE_HOST=host)
    assert process.wait(10) == 78
    (line,) = [line for line in workers.log(process).splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: FOURLANE_PROBE_HOST: cannot listen on {host}, port ")


def test_a_probe_port_in_use(workers: Workers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = workers.start(FOURLANE_PROBE_PORT=str(port))
        assert process.wait(10) == 78
    (line,) = [line for line in workers.log(process).splitlines() if "PROBE_PORT" in line]
    assert line == f"error: FOURLANE_PROBE_PORT: cannot listen on port {port} (Address already in use); choose another"
    assert "Traceback" not in workers.log(process)


# What it says -----------------------------------------------------------------------------------------------


def test_a_worker_says_what_it_serves_and_what_fails(workers: Workers) -> None:
    process = workers.start("--processes", "2", "--slots", "3", "--concurrency", "50")
    log = workers.log(process)
    assert re.search(r"ready: 2 process\(es\) × 3 slots \(50 async jobs\), serving .*local\.jobs\.\*\.default", log)
    workers.send("quick", "q")
    failing, retried = workers.send("fail", "f"), workers.send("fail_twice", "r")
    eventually(lambda: failing.status() is retried.status() is State.DEAD)
    wait_for_words(workers, process, f"dead job={failing.id} task=fail attempt=1")
    wait_for_words(workers, process, f"retry job={retried.id} task=fail_twice attempt=1")
    eventually(lambda: is_done(workers, "q"))
    process.terminate()
    assert process.wait(10) == 0
    assert "done job=" not in workers.log(process)


def test_a_password_is_not_shown(workers: Workers, start_server: StartServer) -> None:
    server = start_server(password="s3cret")
    process = workers.start(REDIS_URL=server.url)
    assert workers.log(process).splitlines()[0] == f"redis: redis://127.0.0.1:{server.port}/0"
    assert "s3cret" not in workers.log(process)


def test_dev_says_that_its_server_is_embedded_and_logs_every_job(workers: Workers) -> None:
    process = workers.start(command="dev", REDIS_URL="")
    sqs, first = workers.log(process).splitlines()[:2]
    assert sqs.startswith("sqs: moto's server at http://127.0.0.1:")
    assert first.startswith("redis: embedded valkey ")
    assert first.endswith(", data in .fourlane")
    attached = workers.start(REDIS_URL="")
    first = workers.log(attached).splitlines()[0]
    assert first.endswith(", embedded in the `fourlane dev` of .fourlane")


def test_dev_on_a_real_server_logs_every_job(workers: Workers) -> None:
    process = workers.start(command="dev")
    sent = workers.send("quick", "q")
    wait_for_words(workers, process, f"done job={sent.id} task=quick attempt=1")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://user:pa%40ss@h:1/2", "redis://h:1/2"),
        ("rediss://:secret@h:1?db=3", "rediss://h:1/3"),
        ("redis://:secret@[::1]:1/0", "redis://[::1]:1/0"),
        ("unix://:secret@/run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
    ],
)
def test_the_address_of_a_server(url: str, address: str) -> None:
    connector = Connector(client_of(url))
    assert connector.address == address
    connector.close()
