"""What does no work though Redis answers is ended; what waits, is refused or cannot reach Redis is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import fourlane
from fourlane import outbox
from fourlane.db import migrate
from fourlane.db.engine import open_database
from fourlane.outbox.relay import Relay
from fourlane.queues.broker import RedisBroker
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Store
from fourlane.scheduler.ticker import Scheduler
from fourlane.tasks.task import task
from fourlane.watchdog import STUCK, Watchdog
from tests.servers import Server, eventually

STUCK_SCHEDULER = """
import logging, sys, threading
from fourlane.queues import schedules
from fourlane.queues.redis import Connector, connect
from fourlane.queues.redis import Connector, client_of, connect
from fourlane.queues.store import Store
from fourlane.scheduler.ticker import Scheduler
from fourlane.watchdog import Watchdog, ping_of

logging.basicConfig(stream=sys.stderr)
store = Store(Connector(client_of(sys.argv[1])))
store.announce("mail")

def hang(*args, **kwargs):
    if sys.argv[2] == "with the log":
        logging.root.handlers[0].acquire()
    threading.Event().wait()

strange = [ValueError("no answer, and no silence")] if sys.argv[2] == "with the log" else []
real = ping_of(store.connector, store.keys.edits)

def ping():
    if strange:
        raise strange.pop()
    real()

schedules.due = hang
watchdog = Watchdog(0.6)
watchdog.kick()
watchdog.start(ping)
Scheduler(store, watchdog).run()
"""

WELL = """
import math, os, threading, time
from fourlane.errors import RedisUnavailable
from fourlane.watchdog import Watchdog

def gone():
    raise RedisUnavailable("gone")

alone, sleeping, busy = Watchdog(0.3), Watchdog(0.3), Watchdog(0.3)
alone.kick()
alone.start(gone)
sleeping.kick(60.0)
over = threading.Thread(target=lambda: (sleeping.kick(), sleeping.leave()))
over.start()
over.join()
for_ever = threading.Thread(target=lambda: (sleeping.kick(math.inf), time.sleep(60)), daemon=True)
for_ever.start()
sleeping.start(lambda: None)
busy.kick()
busy.start(lambda: None)
print("up", flush=True)
until = time.monotonic() + 2.0
while time.monotonic() < until:
    busy.kick()
    time.sleep(0.02)
os._exit(0)
"""


STUCK_IN_A_WORKER = """
import sys, threading
from fourlane import watchdog
from fourlane.cli import main
from fourlane.commands import supervise
from fourlane.outbox import relay
from fourlane.queues import schedules

def hang(*args, **kwargs):
    threading.Event().wait()

watchdog.Watchdog.__init__.__defaults__ = (0.6, None)
relay.PATIENCE_SECONDS = 0.6
if sys.argv.pop(1) == "scheduler":
    schedules.due = hang
else:
    relay.Relay.step = hang
supervise.become = lambda assignment: sys.exit(supervise.supervise(assignment))  # here, where these hang
main()
"""


@contextmanager
def running(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    source = str(Path(fourlane.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"PYTHONPATH": source},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_stuck_scheduler_ends_and_says_where(redis_server: Server) -> None:
    with running(STUCK_SCHEDULER, redis_server.url, "alone") as process:
        _, told = process.communicate(timeout=20)
        assert process.returncode == STUCK
        assert "no work for 0.6 s though Redis answers" in told
        assert "in hang" in told


def test_what_is_stuck_ends_though_it_holds_the_log_and_a_ping_failed_strangely(redis_server: Server) -> None:
    with running(STUCK_SCHEDULER, redis_server.url, "with the log") as process:
        process.communicate(timeout=10)
        assert process.returncode == STUCK


@pytest.mark.parametrize("what", ["scheduler", "relay"])
def test_a_worker_beside_whose_processes_something_is_stuck_ends_as_in_a_deploy(
    redis_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    monkeypatch.setenv("FOURLANE_DATA_DIR", str(tmp_path))
    with running(STUCK_IN_A_WORKER, what, "worker", f"--{what}", "--processes", "1") as process:
        _, told = process.communicate(timeout=30)
    assert process.returncode == STUCK, told
    assert "no work for 0.6 s though Redis answers" in told
    assert "in hang" in told
    assert "stopping: what runs has" in told


def test_what_is_well_goes_on_also_after_a_pause_of_the_process() -> None:
    with running(WELL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.8)  # longer than its patience
        process.send_signal(signal.SIGCONT)
        _, told = process.communicate(timeout=20)
        assert (process.returncode, told) == (0, "")


class Heard(Watchdog):
    """Counts how often it is told that all is well."""

    times = 0

    def kick(self, sleep_seconds: float = 0.0) -> None:
        self.times += 1

    def is_told_more(self) -> None:
        before = self.times
        eventually(lambda: self.times > before)


def test_a_scheduler_tells_of_its_rounds_and_of_refusals_but_not_of_silence(redis_server: Server) -> None:
    store, heard = Store(Connector(client_of(redis_server.url))), Heard()
    store.announce("mail")
    scheduler = Scheduler(store, heard)
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    try:
        eventually(lambda: heard.times > 0)
        key = store.service("mail").fires
        redis_server.command("SET", key.decode(), "no list of times")
        store.connector.command(store.keys.edits, "ZADD", store.keys.edits, 0, "a")
        heard.is_told_more()
        heard.is_told_more()
        redis_server.command("DEL", key.decode())
        redis_server.stop()
        time.sleep(0.2)  # what it was told before is told
        before = heard.times
        time.sleep(0.5)
        assert heard.times == before
        redis_server.start()
        heard.is_told_more()
    finally:
        scheduler.stop()
        thread.join(10)
    assert not thread.is_alive()
    store.connector.close()


def test_a_relay_tells_of_its_rounds_but_not_of_batches_that_find_no_redis(
    redis_server: Server, tmp_path: Path
) -> None:
    broker, heard, stop = RedisBroker(url=redis_server.url), Heard(), threading.Event()

    @task(broker=broker)
    def note() -> None: ...

    database = open_database(f"sqlite:///{tmp_path}/outbox.db")
    migrate.migrate(database)
    relay = Relay(database, broker.store)
    thread = threading.Thread(target=relay.run, args=(stop, heard))
    thread.start()
    try:
        heard.is_told_more()
        redis_server.stop()
        with database.begin() as session:
            outbox.enqueue(session, note)
        eventually(lambda: relay._trouble)
        before = heard.times
        time.sleep(0.5)
        assert heard.times == before
        redis_server.start()
        heard.is_told_more()
        eventually(lambda: relay.relayed == 1)
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    database.close()
    broker.close()
