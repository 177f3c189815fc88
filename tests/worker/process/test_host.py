"""A worker is a good host: what others' code does in it works as in a program of their own, and harms no neighbour."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import CALL, Command
from tests.command import command as command
from tests.workers import eventually

HOSTED = """
import atexit, decimal, logging.config, multiprocessing, os, signal, subprocess, tempfile
import fourlane
from fourlane.app import open_database
from fourlane.config import load_settings

@atexit.register
def at_exit():
    print("atexit ran")

logging.config.dictConfig({"version": 1})

@fourlane.task(result_ttl_ms=60_000)
def talk():
    print("said by the task")

@fourlane.task(result_ttl_ms=60_000)
def end_program(number):
    program = subprocess.Popen(["sleep", "20"])
    program.send_signal(number)
    return program.wait(10)

@fourlane.task(result_ttl_ms=60_000)
def end_fork():
    fork = multiprocessing.get_context("fork").Process(target=signal.pause)
    fork.start()
    fork.terminate()
    fork.join(10)
    return fork.exitcode

@fourlane.task(max_retries=0)
def fails():
    raise ValueError("the only trace of this")

@fourlane.task(result_ttl_ms=60_000)
def change_folder():
    os.chdir(tempfile.gettempdir())
    settings = load_settings()
    database = open_database(settings).engine.url.database
    return [settings.webhook_timeout_seconds, str(settings.data_dir), str(settings.notification_templates), database]

@fourlane.task(result_ttl_ms=60_000)
def leave_behind():
    return int(subprocess.run("sleep 0.1 & echo $!", shell=True, stdout=subprocess.PIPE).stdout)

@fourlane.task(result_ttl_ms=60_000)
def state(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""
"""


SENDER = """
import json
from signal import SIGHUP, SIGINT
from hosted import change_folder, end_fork, end_program, fails, talk

fails.send()
sent = [end_program.send(SIGINT), end_program.send(SIGHUP), end_fork.send(), change_folder.send(), talk.send()]
print(json.dumps([job.result(timeout=20) for job in sent]))
"""


def test_code_of_others_finds_a_usual_program(command: Command, tmp_path: Path) -> None:
    module = command.module("hosted", HOSTED)
    named = "FOURLANE_WEBHOOK_TIMEOUT_SECONDS=7\nDATABASE_URL=sqlite:///shop/own.db\n"
    (tmp_path / ".env.local").write_text(named)
    log = tmp_path / "log"
    with log.open("wb") as out:
        worker = command.start("worker", module, stdout=out, stderr=out)

    sender = command.start_other([sys.executable, "-c", SENDER], stdout=subprocess.PIPE, text=True)
    results = json.loads(sender.communicate(timeout=30)[0].splitlines()[0])

    settings = [7, str(tmp_path / ".fourlane"), str(tmp_path / "templates"), str(tmp_path / "shop/own.db")]
    assert results == [-signal.SIGINT, -signal.SIGHUP, -signal.SIGTERM, settings, None]
    eventually(lambda: "said by the task" in log.read_text())  # while the worker runs

    eventually(lambda: "ValueError: the only trace of this" in log.read_text())
    assert log.read_text().count("disable_existing_loggers") == 1

    worker.terminate()
    assert worker.wait(20) == 0
    assert "atexit ran" in log.read_text()


ORPHAN = """
import time
from hosted import leave_behind, state

pid = leave_behind.send().result(timeout=20)
for _ in range(50):
    found = state.send(pid).result(timeout=20)
    if found == "":
        break
    time.sleep(0.1)
print(repr(found))
"""


def test_process_1_lets_go_of_what_tasks_leave_behind(command: Command) -> None:
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("this user may not make a namespace of processes")
    command.start_other([*apart, *CALL, "worker", command.module("hosted", HOSTED)])
    sender = command.start_other([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True)
    assert sender.communicate(timeout=40)[0].splitlines()[0] == "''"


OWN_THREADS = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
import fourlane

pool = ThreadPoolExecutor(1)

def later(what):
    time.sleep(1)
    print(what, "ended")

@fourlane.task
def hand_over():
    for number in range(3):
        pool.submit(later, f"pooled {number}")
    threading.Thread(target=later, args=["thread"]).start()
    print("handed over")

@fourlane.task
def never_end():
    threading.Thread(target=threading.Event().wait).start()
    print("begun for ever")
"""


def test_a_stop_waits_for_threads_of_the_programs_own_within_the_grace(command: Command, tmp_path: Path) -> None:
    module = command.module("threads", OWN_THREADS)
    log = tmp_path / "log"
    for task, begun, grace in [("hand_over", "handed over", "15"), ("never_end", "begun for ever", "1")]:
        command.env["FOURLANE_GRACE_SECONDS"] = grace
        with log.open("wb") as out:
            worker = command.start("worker", module, stdout=out, stderr=out)
        send = [sys.executable, "-c", f"import threads; threads.{task}.send()"]
        assert command.start_other(send).wait(20) == 0
        eventually(lambda begun=begun: begun in log.read_text())  # type: ignore[misc]
        worker.terminate()
        assert worker.wait(14) == 0
        if task == "hand_over":
            ended = {line for line in log.read_text().splitlines() if line.endswith(" ended")}
            assert ended == {"pooled 0 ended", "pooled 1 ended", "pooled 2 ended", "thread ended"}
