"""Processes that live and do not work: they are found, told of and ended."""

from __future__ import annotations

from fourlane.job import State
from tests.servers import free_port
from tests.workers import Workers, ask, eventually

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
    (first,) = eventually(lambda: workers.said("done", "s"))
    sent = workers.send("hang", "h")
    begun = eventually(lambda: len(pids := workers.said("begun", "h")) == 2 and pids)
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
    _, told = eventually(lambda: (reply := ask(port, "ready"))[0] == 503 and reply)
    workers.db.delete(f"{workers.namespace}:wrong")
    assert told["processes"][0]["wrong"] == "its event loop ended"
    assert first != eventually(lambda: workers.said("begun", "h")[1:])[0]
    assert sent.info().crashes == 1
    workers.open_gate("h")
    eventually(lambda: workers.is_done("h") and ask(port, "ready")[0] == 200)
    assert f"pid={first}: its event loop ended; killing it" in workers.log(supervisor)
