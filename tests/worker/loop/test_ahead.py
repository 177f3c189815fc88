"""A turn asked ahead, to run in Redis when a wait ends: it saves a round trip and must lose nothing."""

from __future__ import annotations

import threading

import msgspec
import pytest

import fourlane
from fourlane import codec
from fourlane.job import State, new_id
from fourlane.queues.beat import SILENCE_MS
from fourlane.queues.broker import RedisBroker
from fourlane.queues.redis import Link
from fourlane.queues.turn import Ask, Turn
from fourlane.worker.loop.loop import Loop
from tests.proxy import FaultyProxy
from tests.servers import eventually
from tests.worker.conftest import RunWorker


def asks_ahead(loop: Loop) -> bool:
    return loop.waits.waits[0].ahead is not None and loop.waits.waits[0].armed


def test_the_next_job_comes_with_the_end_of_the_wait(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[int] = []

    @fourlane.task(tier="P2")
    def note(number: int) -> None:
        ran.append(number)

    urgent = fourlane.task(tier="P0", name="urgent", broker=broker)(lambda number: ran.append(number))
    loop = run_worker(broker)
    note.send(0)
    eventually(lambda: ran == [0] and asks_ahead(loop))
    for number in range(1, 20):
        note.send(number)
        eventually(lambda number=number: number in ran and asks_ahead(loop))  # type: ignore[misc]
    assert ran == list(range(20))
    # Another tier than the guessed one, and more jobs than were asked for.
    urgent.send(20)
    eventually(lambda: 20 in ran)
    note.send_many([[number] for number in range(21, 60)])
    eventually(lambda: len(ran) == 60)
    assert sorted(ran) == list(range(60))
    eventually(lambda: broker.client.hlen(broker.store.service("default").jobs) == 0)


def test_an_idle_worker_asks_no_longer(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fourlane.worker.loop.waits._WAIT_SECONDS", 0.2)
    ran: list[int] = []

    @fourlane.task
    def note(number: int) -> None:
        ran.append(number)

    loop = run_worker(broker)
    note.send(0)
    eventually(lambda: ran == [0] and asks_ahead(loop))
    eventually(lambda: not asks_ahead(loop) and loop.waits.armed())
    note.send(1)
    eventually(lambda: ran == [0, 1] and asks_ahead(loop))


def test_jobs_of_a_lost_reply_come_back(
    redis_url: str, broker: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    """Redis gave the worker a job, and the connection broke before it heard of it."""
    behind = RedisBroker(url=proxy.url(redis_url), namespace=broker.store.namespace)
    ran: list[int] = []

    @fourlane.task(broker=behind)
    def note(number: int) -> None:
        ran.append(number)

    direct = fourlane.task(broker=broker, name="note")(lambda number: None)
    loop = run_worker(behind)
    direct.send(0)
    eventually(lambda: ran == [0] and asks_ahead(loop))
    job_id = new_id(1, 1_700_000_000_000)
    proxy.drop_next_reply(job_id.encode())
    broker.store.enqueue("default", 1, (job_id, codec.encode("note", [1])))
    proxy.wait_dropped()
    eventually(lambda: ran == [0, 1])
    eventually(lambda: broker.client.hlen(broker.store.service("default").jobs) == 0)
    behind.close()


def test_a_worker_that_left_is_given_nothing(broker: RedisBroker) -> None:
    """Its connection may be noticed late: what it asked ahead must not be done any more."""
    task = fourlane.task(broker=broker, name="note")(lambda number: None)
    sent = task.send(0)
    store = broker.store
    link = store.connector.open(store.service("default").jobs)
    store.ask_ahead(link, "default", "left.0", Ask(2, "1", ahead=True))
    assert store.hear_ahead(link) is None
    assert sent.status() is State.READY
    store.turn(link, "default", "here.0", Ask(beat=True, idle_silence_ms=60_000))
    store.ask_ahead(link, "default", "here.0", Ask(2, "1", ahead=True))
    turn = store.hear_ahead(link)
    assert turn is not None
    assert [leased.entry for leased in turn.jobs] == [sent.id]
    # It leaves without having heard of it.
    assert store.leave("default", "here.0") == 1
    assert broker.client.lrange(store.service("default").ready[1], 0, -1) == [sent.id.encode()]
    assert sent.info().crashes == 0
    assert store.lease_names("default") == []
    link.close()


def test_leases_that_a_worker_does_not_know_are_found_at_its_look(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fourlane.worker.loop.turning.idle_look_seconds", lambda services: 0.3)
    ran = threading.Event()

    @fourlane.task
    def note() -> None:
        ran.set()

    sent = note.send()
    keys = broker.store.service("default")
    broker.client.lrem(keys.ready[1], 0, sent.id)
    broker.client.sadd(keys.leased("w0.0"), sent.id)
    run_worker(broker, name="w0")
    assert ran.wait(30)
    eventually(lambda: sent.status() is State.UNKNOWN)
    assert "out of step" in caplog.text
    caplog.clear()
    note.send()
    eventually(lambda: broker.client.hlen(keys.jobs) == 0)
    assert not threading.Event().wait(0.7), "two more looks"
    assert "out of step" not in caplog.text


def test_a_lease_that_nobody_hears_of_counts_as_lost_after_the_short_silence(broker: RedisBroker) -> None:
    """Its worker died with the answer on the way: who waits is told to watch, and does not wait for an idle look."""
    task = fourlane.task(broker=broker, name="note")(lambda number: None)
    store = broker.store
    keys = store.service("default")
    link = store.connector.open(keys.jobs)
    for name in ("dies.0", "other.0"):
        store.turn(link, "default", name, Ask(beat=True, idle_silence_ms=60_000))

    def ahead() -> list[str]:
        store.ask_ahead(link, "default", "dies.0", Ask(1, "1", ahead=True))
        turn = store.hear_ahead(link)
        assert turn is not None
        return [leased.entry for leased in turn.jobs]

    def left_ms() -> float:
        return float(broker.client.zscore(keys.workers, "dies.0")) - store.clock.now_ms()

    assert ahead() == []
    assert left_ms() > SILENCE_MS
    assert not broker.client.exists(keys.watch)
    sent = task.send(0)
    assert ahead() == [sent.id]
    assert SILENCE_MS - 1_000 < left_ms() <= SILENCE_MS + 50
    assert broker.client.zrange(keys.watch, 0, -1) == [b"w"]
    broker.client.delete(keys.watch)
    until = broker.client.zscore(keys.workers, "dies.0")
    task.send(1)
    assert len(ahead()) == 1
    assert broker.client.zscore(keys.workers, "dies.0") == until  # lone jobs one after the other need no more
    assert not broker.client.exists(keys.watch)
    broker.client.zadd(keys.workers, {"dies.0": until - SILENCE_MS})
    assert store.reclaim("default", "dies.0", "it fell silent") == (2, [])
    link.close()


def test_what_lay_unread_for_long_is_given_back(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User code held the interpreter meanwhile, say: by now the job may be another worker's."""
    ran: list[int] = []

    @fourlane.task
    def note(number: int) -> None:
        ran.append(number)

    loop = run_worker(broker)
    note.send(0)
    eventually(lambda: ran == [0] and asks_ahead(loop))
    heard: list[list[str]] = []
    hear = broker.store.hear_ahead

    def hear_late(link: Link) -> Turn | None:
        turn = hear(link)
        if turn is None or heard:
            return turn
        heard.append([leased.entry for leased in turn.jobs])
        # Meanwhile its silence was over, and another took the job.
        broker.client.zadd(broker.store.service("default").workers, {"w0.0": 1})
        assert broker.store.reclaim("default", "w0.0", "it fell silent") == (1, [])
        return msgspec.structs.replace(turn, now_ms=broker.store.clock.now_ms() - SILENCE_MS)

    monkeypatch.setattr(broker.store, "hear_ahead", hear_late)
    sent = note.send(1)
    eventually(lambda: sent.status() is State.UNKNOWN)
    assert heard == [[sent.id]]
    assert ran == [0, 1]
