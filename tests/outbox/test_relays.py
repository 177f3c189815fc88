"""Relays as processes: killed in the middle, beside workers, and what a user's mistake is told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, text

from fourlane import outbox
from fourlane.db import migrate
from fourlane.db.engine import Database, open_database
from fourlane.db.models import JobOutbox
from fourlane.errors import DatabaseUnavailable
from fourlane.outbox import listen
from fourlane.outbox.relay import Relay, idle_wait
from fourlane.queues.store import Store
from fourlane.tasks.task import Task
from tests.command import Command
from tests.command import command as command
from tests.servers import eventually

AnyTask = Task[Any, Any]


class Consumer:
    """Takes jobs out of Redis and forgets them at once, as quick workers do: an id that comes twice is seen."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seen: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        keys, connector = self.store.service("images"), self.store.connector
        while not self._stop.is_set():
            entries = connector.command(keys.ready[0], "LPOP", keys.ready[0], 100) or []
            ids = [entry.decode().split("|")[0] for entry in entries]
            if ids:
                connector.command(keys.jobs, "HDEL", keys.jobs, *ids)
                self.seen.update(i[2:] for i in ids)
            else:
                self._stop.wait(0.005)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def consumer(store: Store) -> Iterator[Consumer]:
    made = Consumer(store)
    yield made
    made.close()


def pending(database: Database) -> int:
    with database.begin() as session:
        return session.scalar(select(func.count()).where(JobOutbox.relayed_at.is_(None))) or 0


def fill(database: Database, task: AnyTask, count: int) -> set[str]:
    with database.begin() as session:
        return {outbox.enqueue(session, task, n).id for n in range(count)}


# Dies by SIGKILL, for good, between Redis's answer and the commit of its first batch.
DIES_BEFORE_ITS_COMMIT = """
import os, signal
from fourlane.outbox.relay import Relay, idle_wait
Relay._mark = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from fourlane.cli import main
main(["relay", "--once"], prog_name="fourlane")
"""


def test_killed_between_redis_and_the_commit(
    database: Database, migrated_url: str, pooled: bool, command: Command, consumer: Consumer, resize: AnyTask
) -> None:
    sent = fill(database, resize, 120)
    env = command.env | {"DATABASE_URL": migrated_url, "FOURLANE_DATABASE_TRANSACTION_POOLER": str(pooled).lower()}
    for _ in range(2):
        died = subprocess.run([sys.executable, "-c", DIES_BEFORE_ITS_COMMIT], env=env, cwd=command.folder, check=False)
        assert died.returncode == -signal.SIGKILL
    eventually(lambda: consumer.seen.total() == 50)  # a first batch, done already
    assert pending(database) == 120
    ended = command("relay", "--once", **env)
    assert ended.returncode == 0, ended.stderr
    assert "120 relayed" in ended.stdout
    eventually(lambda: consumer.seen == Counter(sent))


# Stops itself (SIGSTOP) once, between reading its first rows and telling Redis.
SLEEPS_BEFORE_REDIS = """
import os, signal
from fourlane.outbox.handover import Handover
send = Handover.send
def sleep(self, *args):
    Handover.send = send
    os.kill(os.getpid(), signal.SIGSTOP)
    return send(self, *args)
Handover.send = sleep
from fourlane.cli import main
main(["relay", "--once"], prog_name="fourlane")
"""


def test_one_that_slept_while_another_took_its_rows(
    migrated_postgres_url: str, store: Store, command: Command, consumer: Consumer, resize: AnyTask
) -> None:
    """PostgreSQL gave up on it and freed its rows; their jobs are done when it wakes up."""
    database = open_database(migrated_postgres_url)
    sent = fill(database, resize, 40)
    env = command.env | {"DATABASE_URL": migrated_postgres_url}
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPS_BEFORE_REDIS], env=env, cwd=command.folder, stderr=subprocess.PIPE, text=True
    ) as sleeper:
        eventually(lambda: Path(f"/proc/{sleeper.pid}/stat").read_text().split()[2] == "T", 30)
        assert Relay(database, store).drain() == 0  # they are locked
        with database.begin() as session:
            session.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                     " WHERE state = 'idle in transaction' AND pid <> pg_backend_pid()")
            )  # fmt: skip
        other = Relay(database, store)
        eventually(lambda: other.drain() == 40)
        eventually(lambda: consumer.seen == Counter(sent))
        sleeper.send_signal(signal.SIGCONT)
        _, said = sleeper.communicate(timeout=60)
    assert sleeper.returncode == 1  # its transaction is lost, and it says so
    assert "error: database:" in said
    assert Relay(database, store).drain() == 0
    last = fill(database, resize, 1)
    Relay(database, store).drain()
    eventually(lambda: consumer.seen == Counter(sent | last))
    database.close()


def test_killed_at_any_moment(
    database: Database, migrated_url: str, pooled: bool, command: Command, consumer: Consumer, resize: AnyTask
) -> None:
    """Two relays, one of them killed again and again, while rows are written."""
    env = {
        "DATABASE_URL": migrated_url,
        "FOURLANE_DATABASE_TRANSACTION_POOLER": str(pooled).lower(),
        "FOURLANE_OUTBOX_BATCH": "20",  # many moments between a call and its commit
    }
    command.env |= env
    sent: set[str] = set()
    chance = random.Random(7)
    command.start("relay", stderr=subprocess.DEVNULL)
    for _ in range(4):
        killed = command.start("relay", stderr=subprocess.PIPE)
        killed.stderr.readline()  # ready
        sent |= fill(database, resize, 400)
        time.sleep(chance.uniform(0.0, 0.15))  # the moment of the kill is by chance, that is the test
        killed.kill()
        killed.wait(10)
    eventually(lambda: pending(database) == 0, 30)
    eventually(lambda: consumer.seen.total() >= len(sent))
    assert consumer.seen == Counter(sent)


def test_connections_lost_in_the_middle(
    database: Database, store: Store, consumer: Consumer, resize: AnyTask, postgres_server: Any
) -> None:
    if database.dialect == "sqlite":
        pytest.skip("SQLite has no connection to lose")
    from tests.postgres import connect

    relay, stop = Relay(database, store, batch=10), threading.Event()
    thread = threading.Thread(target=relay.run, args=[stop])
    admin = connect(postgres_server.url)
    thread.start()
    sent: set[str] = set()
    for _ in range(10):
        sent |= _filled(database, resize)
        cursor = admin.cursor()
        cursor.execute(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [database.engine.url.database],
        )
        killed = [pid for pid, _ in cursor.fetchall()]
        eventually(partial(_are_gone, cursor, killed), 20)  # so that none dies in the middle of the next commit of ours
    eventually(lambda: _or_zero(lambda: pending(database)) == 0, 30)
    eventually(lambda: consumer.seen.total() >= len(sent))
    stop.set()
    thread.join(10)
    admin.close()
    assert consumer.seen == Counter(sent)


def _filled(database: Database, resize: AnyTask) -> set[str]:
    """A pooler may notice only with our first statement that its connection is dead; then nothing was written."""
    while True:
        try:
            return fill(database, resize, 100)
        except DatabaseUnavailable:
            continue


def _are_gone(cursor: Any, pids: list[int]) -> bool:
    cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", [pids])
    return bool(cursor.fetchone() == (0,))


def _or_zero(count: Callable[[], int]) -> int:
    try:
        return count()
    except DatabaseUnavailable:
        return -1


def test_an_idle_look_is_one_query(database: Database, relay: Relay) -> None:
    relay.step()
    seen: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda c, cursor, sql, *_: seen.append(sql))
    relay.step()
    assert len([sql for sql in seen if not sql.startswith(("BEGIN", "SET LOCAL"))]) == 1


@pytest.mark.parametrize(
    ("silence", "wait"),
    [
        (0.0, 0.02),  # just now
        (0.1, 0.02),
        (1.0, 0.1),  # a tenth of the silence: a row waits no longer than that
        (5.0, 0.5),
        (10.0, 1.0),
        (86_400.0, 1.0),
    ],
)
def test_idle_looks_become_rare(silence: float, wait: float) -> None:
    assert idle_wait(silence, 1.0) == pytest.approx(wait)


def listeners(database: Database) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    with database.engine.begin() as connection:
        return int(connection.exec_driver_sql(query.replace("%", "%%")).scalar() or 0)


def test_postgresql_rings(
    database: Database, store: Store, pooled: bool, resize: AnyTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that would look again in a minute finds the row at once."""
    if database.dialect == "sqlite" or pooled:
        pytest.skip("nobody rings here")
    monkeypatch.setattr(listen, "_LISTEN_SECONDS", 60)
    relay, stop = Relay(database, store, longest_wait_seconds=60), threading.Event()
    thread = threading.Thread(target=relay.run, args=[stop])
    thread.start()
    try:
        eventually(lambda: listeners(database))
        for n in range(3):
            fill(database, resize, 1)
            eventually(lambda n=n: relay.relayed == n + 1)  # type: ignore[misc]
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()


def test_who_never_hears_a_ring_looks_by_the_clock(
    migrated_postgres_url: str,
    store: Store,
    resize: AnyTask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As behind a pooler that the settings do not name."""
    monkeypatch.setattr(listen, "_LISTEN_SECONDS", 0.05)
    monkeypatch.setattr(listen, "_SLICE_SECONDS", 0.05)
    database = open_database(migrated_postgres_url)
    with database.begin() as session:
        session.execute(text("ALTER TABLE job_outbox DISABLE TRIGGER fourlane_outbox_notify"))
    relay, stop = Relay(database, store), threading.Event()
    thread = threading.Thread(target=relay.run, args=[stop])
    thread.start()
    try:
        eventually(lambda: listeners(database))
        sent = 0
        while listeners(database):
            sent += len(fill(database, resize, 1))
            eventually(lambda so_far=sent: relay.relayed == so_far)  # type: ignore[misc]
            assert sent < 50
        fill(database, resize, 1)
        eventually(lambda: relay.relayed > sent)
    finally:
        stop.set()
        thread.join(10)
        database.close()
    assert sent >= 3
    assert caplog.text.count("without a ring") == 1


def test_an_error_that_nobody_thought_of_does_not_end_it(
    database: Database, store: Store, resize: AnyTask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    relay, stop = Relay(database, store), threading.Event()
    step, calls = relay.step, iter([True])

    def broken() -> int:
        if next(calls, False):
            raise ZeroDivisionError("odd")
        return step()

    monkeypatch.setattr(relay, "step", broken)
    thread = threading.Thread(target=relay.run, args=[stop])
    thread.start()
    try:
        fill(database, resize, 1)
        eventually(lambda: relay.relayed == 1)
    finally:
        stop.set()
        thread.join(10)
    assert "odd" in caplog.text


def test_a_pooler_that_was_not_declared(postgres_url: str, pgbouncer_port: int) -> None:
    from sqlalchemy import make_url

    url = make_url(postgres_url).set(port=pgbouncer_port).render_as_string(hide_password=False)
    database = open_database(url)
    with pytest.raises(DatabaseUnavailable, match="FOURLANE_DATABASE_TRANSACTION_POOLER=true"):
        migrate.status(database)


TASKS = """
from functools import partial
from pathlib import Path
from fourlane import task
@task
def note(word):
    with Path("notes").open("a") as notes:
        notes.write(word + "\\n")
"""
SEND = """
import sys
from fourlane import outbox
from fourlane.app import open_database
from fourlane.config import load_settings
from tasks import note
with open_database(load_settings()).begin() as session:
    for word in sys.argv[1:]:
        outbox.enqueue(session, note, word)
"""


def send(command: Command, *words: str) -> None:
    subprocess.run([sys.executable, "-c", SEND, *words], cwd=command.folder, env=command.env, check=True, timeout=60)


def notes(command: Command) -> list[str]:
    file = command.folder / "notes"
    return sorted(file.read_text().split()) if file.exists() else []


def test_a_worker_relays_too(command: Command) -> None:
    command.module("tasks", TASKS)
    assert command("db", "migrate").returncode == 0
    worker = command.start("worker", "--relay", "tasks", stderr=subprocess.PIPE, text=True)
    assert worker.stderr is not None
    eventually(lambda: "ready" in worker.stderr.readline(), 30)  # type: ignore[union-attr]
    send(command, "a", "b")
    eventually(lambda: notes(command) == ["a", "b"], 20)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(40) == 0


def test_dev_needs_nothing(tmp_path: Path) -> None:
    """An embedded Valkey, SQLite, migrated, with a relay."""
    command = Command(tmp_path)
    command.module("tasks", TASKS)
    dev = command.start("dev", "tasks", stderr=subprocess.PIPE, text=True)
    try:
        assert dev.stderr is not None
        eventually(lambda: "ready" in dev.stderr.readline(), 30)  # type: ignore[union-attr]
        send(command, "x")
        eventually(lambda: notes(command) == ["x"], 20)
        dev.send_signal(signal.SIGTERM)
        assert dev.wait(40) == 0
    finally:
        command.close()
    assert os.path.exists(tmp_path / ".fourlane" / "fourlane.db")
