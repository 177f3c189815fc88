"""Faults between worker and Redis: who waits how long, and who notices what."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

import fourlane
from fourlane import job
from fourlane.errors import RedisUnavailable
from fourlane.job import State
from fourlane.queues import browse, control
from fourlane.queues.broker import RedisBroker
from fourlane.queues.redis import SOCKET_TIMEOUT_SECONDS, Link
from fourlane.queues.store import Store
from fourlane.queues.turn import Turn
from fourlane.tasks.task import task
from fourlane.worker.table import Table
from tests.proxy import FaultyProxy
from tests.servers import Server
from tests.worker.conftest import RunWorker
from tests.workers import eventually


def test_a_wait_that_cannot_be_armed_is_armed_again(
    behind: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server goes away between a worker's turn and its wait: it must not sleep deaf to every token."""
    turn, gone = Store.turn, threading.Event()

    def turn_then_gone(store: Store, *args: Any, **options: Any) -> Turn:
        told = turn(store, *args, **options)
        if not gone.is_set():
            proxy.refuse()
            proxy.cut()
            gone.set()
        return told

    monkeypatch.setattr(Store, "turn", turn_then_gone)
    ran: list[bool] = []

    @fourlane.task
    def noted() -> None:
        ran.append(True)

    loop = run_worker(behind)
    assert gone.wait(30)
    eventually(lambda: loop.recovery.failures > 0)
    proxy.accept()
    noted.send()
    eventually(lambda: ran == [True])


def test_idle_links_that_died_do_not_use_up_the_tries(behind: RedisBroker, proxy: FaultyProxy) -> None:
    """A web process keeps one link for each of its threads; a restart of Redis breaks all of them."""

    @fourlane.task
    def noted() -> None: ...

    connector, key = behind.store.connector, behind.store.service("default").jobs
    together = threading.Barrier(12)

    def ask() -> None:
        def use(link: Link) -> Any:
            together.wait(10)
            return link.command("PING")

        connector._repeat(key, use)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert proxy.connections >= 12
    proxy.cut()
    noted.send()
    proxy.cut()
    noted.send_many([[], []])


def test_an_enqueue_into_silence_ends_in_time(
    impatient: RedisBroker, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    @fourlane.task
    def noted() -> None: ...

    monkeypatch.setattr("fourlane.queues.redis.connector._PATIENCE_SECONDS", 0.4)
    monkeypatch.setattr("fourlane.queues.redis.connector._PATIENCE_SECONDS", 0.4)
    noted.send()
    proxy.blackhole()
    began = time.monotonic()
    with pytest.raises(RedisUnavailable, match="is the server running"):
        noted.send()
    assert time.monotonic() - began < 1.0, "one more try after a silent one, not three"
    proxy.heal()
    noted.send()


def test_an_enqueue_on_a_half_open_connection_takes_a_new_one(
    impatient: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    ran: list[bool] = []

    @fourlane.task
    def noted() -> None:
        ran.append(True)

    noted.send()
    proxy.strand()
    noted.send()
    run_worker(impatient)
    eventually(lambda: len(ran) == 2)


def test_who_has_others_to_look_after_waits_for_a_moment_only(behind: RedisBroker, proxy: FaultyProxy) -> None:
    own = behind.store.answering_within(0.2)

    def seconds_of(call: Callable[[], object]) -> float:
        began = time.monotonic()
        call()
        return time.monotonic() - began

    def reclaim() -> None:
        assert own.reclaim("default", "w0.0", "it was killed", begun=[]) == (0, [])

    reclaim()
    proxy.strand()
    assert 0.2 <= seconds_of(reclaim) < 2.5  # on a new connection
    proxy.blackhole()
    with pytest.raises(RedisUnavailable):
        seconds_of(reclaim)
    proxy.heal()
    link = own.connector.open(b"key")
    proxy.blackhole()
    began = time.monotonic()
    with pytest.raises(RedisUnavailable):
        link.command("PING")
    assert time.monotonic() - began < 2.5
    own.connector.close()


def test_a_client_without_a_timeout_gets_one(redis_url: str, namespace: str) -> None:
    client = redis.Redis.from_url(redis_url, socket_timeout=None)
    broker = RedisBroker(client=client, namespace=namespace)
    assert broker.store.connector.open(b"any").connection.socket_timeout == SOCKET_TIMEOUT_SECONDS
    broker.close()


def test_an_idle_worker_notices_a_half_open_wait(
    impatient: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the waiting connection is dead: looking every 25 s through the other must not be all that is left."""
    monkeypatch.setattr("fourlane.worker.loop.waits._WAIT_SECONDS", 0.5)
    monkeypatch.setattr("fourlane.worker.loop.wait._ANSWER_SECONDS", 0.5)
    monkeypatch.setattr("fourlane.worker.loop.turning.idle_look_seconds", lambda services: 1_000.0)
    ran: list[int] = []

    @fourlane.task
    def noted(number: int) -> None:
        ran.append(number)

    loop = run_worker(impatient)
    eventually(lambda: loop.waits.armed())
    proxy.strand()
    noted.send(0)  # its token goes to the dead connection
    eventually(lambda: ran == [0])
    monkeypatch.setattr("fourlane.worker.loop.wait._ANSWER_SECONDS", 1_000.0)
    eventually(lambda: (loop.waits.answer_by() or 0) > time.monotonic() + 900)
    noted.send(1)
    eventually(lambda: ran == [0, 1])


def test_an_idle_worker_notices_a_black_hole_by_its_look(
    impatient: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fourlane.worker.loop.turning.idle_look_seconds", lambda services: 1.0)
    ran: list[int] = []

    @fourlane.task
    def noted(number: int) -> None:
        ran.append(number)

    loop = run_worker(impatient)
    eventually(lambda: loop.waits.armed())
    proxy.blackhole()
    eventually(lambda: loop.recovery.failures > 0)
    proxy.heal()
    noted.send(0)
    eventually(lambda: ran == [0])


def test_the_last_turn_stands_still_while_redis_is_away(
    behind: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    """What readiness is read from (worker/table.py)."""

    @fourlane.task
    def noted() -> None: ...

    table = Table.create(4)
    loop = run_worker(behind, table=table)
    first = eventually(lambda: table.turned_at)
    noted.send()
    before = eventually(lambda: table.turned_at > first and table.turned_at)
    behind.join("default", timeout=5_000)
    before = table.turned_at
    proxy.refuse()
    proxy.cut()
    eventually(lambda: loop.recovery.failures >= 4)
    assert table.turned_at == before
    proxy.accept()
    eventually(lambda: table.turned_at > before)
    noted.send()
    behind.join("default", timeout=5_000)


def test_scripts_flushed_again_and_again(behind: RedisBroker, run_worker: RunWorker) -> None:
    """Worker, producers and operators load their scripts anew."""
    store, ran = behind.store, []

    @fourlane.task
    def noted(number: int) -> None:
        ran.append(number)

    def flush() -> None:
        behind.client.script_flush()

    held = noted.send_with_options(args=[100], delay=60_000)
    flush()
    run_worker(behind, slots=2)
    for number in range(40):
        if number % 4 == 0:
            flush()
        noted.send(number)
    eventually(lambda: set(ran) == set(range(40)))
    flush()
    assert browse.queues(store)
    flush()
    assert control.set_limit(store, noted.send(40).queue, concurrency=3)
    flush()
    assert held.cancel() == job.State.DELAYED
    flush()
    noted.send_many([[41], [42]])
    eventually(lambda: set(ran) == set(range(43)))


def test_enqueue_without_redis_fails_soon(redis_server: Server, own_broker: RedisBroker) -> None:
    @task
    def note() -> None: ...

    redis_server.config("SET", "appendfsync", "always")
    kept = note.send()
    redis_server.kill()
    started = time.monotonic()
    with pytest.raises(RedisUnavailable):
        note.send()
    with pytest.raises(RedisUnavailable):
        note.send_many([[], []])
    with pytest.raises(RedisUnavailable):
        note.send_with_options(delay=1000)
    assert time.monotonic() - started < 3
    redis_server.start()
    assert kept.status() is State.READY
    note.send()


def test_a_worker_that_stops_while_redis_is_away_says_so_once(
    redis_server: Server, own_broker: RedisBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """And not for each of its services, while each try lasts seconds."""
    loop = run_worker(own_broker, "one", "two", "three")
    eventually(lambda: loop.turned_at > 0)
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "loop-0")
    redis_server.kill()
    loop.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert caplog.text.count("its jobs come back when its silence is noticed") == 1
