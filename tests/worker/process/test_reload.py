"""New code: by SIGHUP, one process after the other, and by itself where files are watched."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fourlane.job import State
from fourlane.worker.process.code_changes import CodeChanges
from tests.workers import Workers, alive, eventually

VERSION = """
import fourlane
from held_tasks import say

@fourlane.task
def version(name):
    say("{}", name)
"""


def write_version(workers: Workers, word: str) -> None:
    (workers.folder / "versions.py").write_text(VERSION.format(word))


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
    workers.wait_for(supervisor, "versions.py changed")
    workers.send("version", "b")
    eventually(lambda: workers.said("two", "b") or workers.said("one", "b"))
    eventually(lambda: workers.send("version", "c") and workers.said("two", "c"), 10, interval=0.2)
    (workers.folder / "versions.py").write_text("def broken(:\n")
    workers.wait_for(supervisor, "waits for the next change")
    assert "Traceback" not in workers.log(supervisor)
    assert "versions.py, line 1" in workers.log(supervisor)
    assert supervisor.poll() is None
    waiting = workers.send("version", "d")
    write_version(workers, "six")
    eventually(lambda: workers.said("six", "d"))
    eventually(lambda: waiting.status() is State.UNKNOWN)


def test_watch_waits_for_the_repair_of_code_that_never_ran(workers: Workers) -> None:
    (workers.folder / "versions.py").write_text("no such name")
    supervisor = workers.start("--watch", module="versions", until="waits for the next change")
    write_version(workers, "one")
    workers.wait_for(supervisor, "ready:", 10)
    supervisor.terminate()
    assert supervisor.wait(30) == 0


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
    workers.wait_for(supervisor, "one by one")
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
    eventually(lambda: len(workers.children(supervisor)) == 2 and not workers.children(supervisor) & old)
    for pid, name in held.items():
        assert (workers.said("begun", name), workers.said("done", name)) == ([pid], [pid])
    supervisor.terminate()
    assert supervisor.wait(30) == 0
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
            eventually(lambda name=name: workers.is_done(name))  # type: ignore[misc]
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
    workers.wait_for(supervisor, "half deployed")
    workers.wait_for(supervisor, "next start in 1.0 s")
    workers.send("version", "a")
    (pid,) = eventually(lambda: workers.said("old", "a"))
    assert pid in old
    write_version(workers, "new")
    supervisor.send_signal(signal.SIGHUP)
    eventually(lambda: len(workers.children(supervisor)) == 2 and not workers.children(supervisor) & old)
    workers.send("version", "b")
    eventually(lambda: workers.said("new", "b"))
