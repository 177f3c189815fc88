"""Redis lost its data: what code declares comes back within seconds, and until then somebody says so."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from fourlane.queues import browse, control, doctor, kept, schedules, status
from fourlane.queues.limit import Limit
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Store
from tests.conftest import StartServer
from tests.servers import Server
from tests.workers import Workers, eventually

DECLARING = """
import fourlane

@fourlane.every(hours=1)
@fourlane.task
def hourly():
    pass

@fourlane.task(service="limited", limit=fourlane.Limit(rate=1, per_ms=1_000))
def slowly():
    pass
"""
START_LIMITS = '{"jobs.low.default": {"concurrency": 3}}'


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server(aof=False, config={"save": '""'})


@pytest.fixture
def workers(server: Server, tmp_path: Path) -> Iterator[Workers]:
    started = Workers(server.url, "fourlane", tmp_path)
    (tmp_path / "declaring.py").write_text(DECLARING)
    yield started
    started.close()


def declared(store: Store) -> tuple[dict[str, Limit], list[str], list[str], list[str]]:
    return (
        control.limits(store),
        schedules.names(store, "default"),
        schedules.names(store, "maintenance"),
        store.services(),
    )


def troubles(store: Store) -> set[str]:
    found = {trouble.rule for trouble in status.judge(status.look(store))}
    return found | {f.name for f in doctor.examine(store, workers=[]) if f.level is doctor.Level.ERROR}


def test_a_worker_and_what_it_declared_come_back_after_flushall_and_after_a_restart_without_data(
    workers: Workers, server: Server
) -> None:
    worker = workers.start("--scheduler", module="declaring", FOURLANE_LIMITS=START_LIMITS)
    store = workers.broker.store
    before = eventually(lambda: (now := declared(store)) and len(now[0]) == 2 and now[1] and now)
    assert troubles(store) == set()
    os.killpg(worker.pid, signal.SIGSTOP)  # nobody can mend it yet
    workers.db.flushall()
    assert troubles(store) == {"DataLost", "data"}
    os.killpg(worker.pid, signal.SIGCONT)
    eventually(lambda: declared(store) == before)
    eventually(lambda: troubles(store) == set(), interval=0.5)
    assert "ERROR fourlane.kept Redis has no data any more" in workers.log(worker)
    server.kill()
    server.start()
    eventually(lambda: declared(store) == before and len(browse.workers(store)) == 1)


def test_what_a_scheduler_declared_comes_back_after_a_restart_without_data(workers: Workers, server: Server) -> None:
    scheduler = workers.start(module="declaring", command="scheduler", until="is up")
    before = declared(workers.broker.store)
    assert before[1] == ["hourly"]
    server.kill()
    server.start()
    eventually(lambda: "declared again" in workers.log(scheduler))
    assert declared(workers.broker.store)[1:] == before[1:]
    assert kept.look(workers.broker.store).id


# The keeper -------------------------------------------------------------------------------------------------


class Declared:
    """A program that declares once, and whenever its keeper wants it."""

    def __init__(self, store: Store) -> None:
        self.times = 0
        self.keeper = kept.Keeper(store, self.declare)

    def declare(self) -> None:
        self.times += 1


StartDeclared = Callable[[str], tuple[Store, Declared]]


@pytest.fixture
def start() -> Iterator[StartDeclared]:
    started: list[tuple[Store, Declared]] = []

    def begin(url: str) -> tuple[Store, Declared]:
        store = Store(Connector(client_of(url)))
        started.append((store, Declared(store)))
        return started[-1]

    yield begin
    for store, declared in started:
        declared.keeper.stop()
        store.connector.close()


def keepers(db: redis.Redis) -> int:
    return sum(client["name"].startswith("fourlane-keeper") for client in db.client_list())


def test_an_old_snapshot_is_noticed(server: Server, start: StartDeclared) -> None:
    with redis.Redis.from_url(server.url) as db:
        store, _ = start(server.url)
        old = db.dump("fourlane:local:data")
        eventually(lambda: browse.now_ms(store) > kept.look(store).declared_ms)
        _, younger = start(server.url)
        eventually(lambda: keepers(db) == 2)
        db.restore("fourlane:local:data", 0, old, replace=True)
        eventually(lambda: younger.times == 1)


def test_others_that_begin_are_no_loss(server: Server, start: StartDeclared) -> None:
    with redis.Redis.from_url(server.url) as db:
        _, first = start(server.url)
        _, second = start(server.url)
        eventually(lambda: keepers(db) == 2)
        db.client_kill_filter(_type="normal", skipme=True)
        eventually(lambda: keepers(db) == 2)
        assert (first.times, second.times) == (0, 0)
        db.flushall()
        eventually(lambda: (first.times, second.times) == (1, 1))
        eventually(lambda: keepers(db) == 2)
        db.flushall()
        eventually(lambda: (first.times, second.times) == (2, 2))


@pytest.fixture
def crowded() -> Iterator[None]:
    """Descriptors below 1,024 are all taken, which is where ``select`` ends."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 2_048 > usual[1] != resource.RLIM_INFINITY:
        pytest.skip("not so many descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(2_048, usual[0]), usual[1]))
    with ExitStack() as stack:
        taken = -1
        while taken < 1_024:
            taken = os.open(os.devnull, os.O_RDONLY)
            stack.callback(os.close, taken)
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, usual)


def test_a_program_with_many_files_open_notices_too(
    crowded: None, server: Server, start: StartDeclared, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis.from_url(server.url) as db:
        _, declared = start(server.url)
        eventually(lambda: keepers(db) == 1)
        db.flushall()
        eventually(lambda: declared.times == 1)
    assert "an error of its own" not in caplog.text


def test_a_server_that_does_not_tell_is_asked(
    start_server: StartServer, start: StartDeclared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_POLL_SECONDS", 0.1)
    server = start_server(acl={"app": "on >secret ~* &* +@all -client"})
    url = f"redis://app:secret@127.0.0.1:{server.port}/0"
    store, declared = start(url)
    with redis.Redis.from_url(server.url) as db:
        db.flushall()
        eventually(lambda: declared.times == 1)
    assert not kept.is_lost(store)
