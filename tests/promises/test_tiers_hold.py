"""Tiers hold across all that one worker serves: several services in one loop, idle and busy."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

import fourlane
from fourlane.job import State
from fourlane.outcome import PLAIN, Outcome, Postpone, Result
from fourlane.queues.broker import Defaults, RedisBroker
from fourlane.queues.contact import Contact
from fourlane.queues.pulse import SILENCE_MS
from fourlane.queues.turn import Ask, Leased
from fourlane.worker.loop.loop import Loop
from fourlane.worker.loop.service import Service
from fourlane.worker.run.executor import Executor
from fourlane.worker.run.run import Run
from tests.conftest import StartServer
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.worker.gates import Gate, declare, has_heard
from tests.worker.gates import gate as gate


def queue_of(broker: RedisBroker, service: str, tier: int) -> int:
    return int(broker.client.llen(broker.store.service(service).ready[tier]))


def test_an_urgent_job_of_another_service_comes_before_a_backlog(
    broker: RedisBroker, run_worker: RunWorker, gate: Gate
) -> None:
    bulk, urgent = declare(gate, "bulk", "P2"), declare(gate, "urgent", "P0")
    loop = run_worker(broker, "bulk", "urgent", slots=2)
    bulk.send_many([["bulk"] for _ in range(60)])
    eventually(lambda: len(gate.begun) == 2)
    for _ in range(3):
        assert gate.step() == "bulk"
        urgent.send("urgent")
        eventually(lambda: has_heard(loop, "urgent", "0"))
        assert gate.step() == "urgent"


def test_tiers_come_in_their_order_and_services_of_one_tier_take_turns(
    broker: RedisBroker, run_worker: RunWorker, gate: Gate
) -> None:
    tiers = ("P0", "P1", "P2", "P3")
    tasks = {(s, t): declare(gate, s, t) for s in "abc" for t in tiers}
    hold = declare(gate, "hold", "P0")
    loop = run_worker(broker, *"abc", "hold", slots=1)
    hold.send("hold")
    eventually(lambda: gate.begun == ["hold"])
    for tier in reversed(tiers):
        for service in "abc":
            tasks[service, tier].send_many([[f"{tier} {service}"] for _ in range(8)])
    eventually(lambda: all(has_heard(loop, service, "0") for service in "abc"))
    order = [gate.step() for _ in range(96)]
    assert [name[:2] for name in order] == [tier for tier in tiers for _ in range(24)]
    for start in range(0, 96, 24):
        # That a service has jobs of a lower tier is heard when its higher ones are done: some steps late. And what was
        # leased as the round before ended may come a step out of turn.
        got = Counter[str]()
        for name in order[start : start + 15]:
            got[name] += 1
            assert max(got.values()) - (min(got.values()) if len(got) == 3 else 0) <= 3, order[start : start + 24]


def test_a_full_worker_hears_and_passes_on_what_it_cannot_take(
    broker: RedisBroker, run_worker: RunWorker, gate: Gate
) -> None:
    bulk, urgent = declare(gate, "bulk", "P2"), declare(gate, "urgent", "P0")
    run_worker(broker, "bulk", "urgent", slots=1)
    bulk.send_many([["bulk"]] * 5)
    eventually(lambda: gate.begun == ["bulk"])
    urgent.send("urgent")
    other = Gate()
    second = RedisBroker(
        url=broker.client.connection_pool.connection_kwargs and url_of(broker), namespace=broker.store.namespace
    )
    fourlane.task(name="urgent-P0", service="urgent", tier="P0", broker=second)(other.run)
    run_worker(second, "urgent", slots=1)
    eventually(lambda: other.begun == ["urgent"])
    other.let.release()
    urgent.send("again")  # the idle one takes it, whoever hears of it first
    eventually(lambda: other.begun == ["urgent", "again"])
    other.let.release()


def url_of(broker: RedisBroker) -> str:
    options = broker.client.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/{options.get('db') or 0}"


@pytest.mark.parametrize("services", [("one",), ("one", "two", "three")])
def test_a_tier_past_its_target_gets_its_share_within_a_second(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, services: tuple[str, ...]
) -> None:
    """One service or several; the target is shortened, the rest is as it is."""
    monkeypatch.setitem(lane_targets(), "1", 300)
    ended = threading.Event()
    ran: list[tuple[str, float]] = []

    def busy(_: int) -> None:
        time.sleep(0.002)

    urgent = [fourlane.task(name=f"busy-{s}", service=s, tier="P0")(busy) for s in services]

    @fourlane.task(service=services[-1], tier="P1")
    def patient(sent_at: float) -> None:
        ran.append(("patient", time.monotonic() - sent_at))
        if len(ran) == 10:
            ended.set()

    run_worker(broker, *services, slots=2)
    for task in urgent:
        task.send_many([[n] for n in range(4_000 // len(services))])
    patient.send_many([[time.monotonic()]] * 10)
    assert ended.wait(10)
    assert 0.3 <= ran[0][1] <= 1.3
    assert sum(queue_of(broker, service, 0) for service in services) > 0  # it was not the end of the backlog


def lane_targets() -> dict[str, int]:
    from fourlane.worker.loop import tiers

    return tiers._TARGETS


def test_a_service_that_was_left_out_of_a_wait_is_heard_again(
    broker: RedisBroker, run_worker: RunWorker, gate: Gate
) -> None:
    """While its backlog is worked on nobody listens for it; when that is done, its next job comes at once."""
    bulk = declare(gate, "bulk", "P2")
    loop = run_worker(broker, "bulk", "urgent", "third", slots=2)
    for round_ in range(5):
        before = len(gate.begun)
        bulk.send_many([["bulk"]] * 6)
        eventually(lambda before=before: len(gate.begun) == before + 2)  # type: ignore[misc]
        eventually(lambda: loop.waits.armed())
        gate.let.release(6)
        eventually(lambda before=before: len(gate.begun) == before + 6)  # type: ignore[misc]
        eventually(lambda: not broker.client.hlen(broker.store.service("bulk").jobs))
        started = time.monotonic()
        bulk.send(f"lone {round_}")
        gate.let.release()
        eventually(lambda before=before: len(gate.begun) == before + 7)  # type: ignore[misc]
        assert time.monotonic() - started < 2


def test_a_user_who_may_not_end_waits_is_served_all_the_same(start_server: StartServer, gate: Gate) -> None:
    server = start_server()
    admin = RedisBroker(url=server.url)
    admin.client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-client")
    parts = urlsplit(server.url)
    broker = RedisBroker(url=urlunsplit(parts._replace(netloc=f"app:secret@{parts.hostname}:{parts.port}")))
    bulk, urgent = (
        fourlane.task(name=name, service=name, tier=tier, broker=broker)(gate.run)
        for name, tier in (("bulk", "P2"), ("urgent", "P0"))
    )
    loop = Loop(broker, [q for task in (bulk, urgent) for q in (task.queue,)], name="w", slots=1, grace_seconds=1)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        bulk.send_many([["bulk"]] * 5)
        eventually(lambda: len(gate.begun) == 1)
        urgent.send("urgent")
        eventually(lambda: has_heard(loop, "urgent", "0"))
        assert gate.step() == "urgent"
        gate.let.release(10)
        eventually(lambda: len(gate.begun) == 6)
        bulk.send("later")
        eventually(lambda: gate.begun[-1] == "later", 5)
    finally:
        loop.stop()
        gate.let.release(10)
        thread.join(10)


def test_a_task_holds_no_more_than_its_share_of_the_slots(
    broker: RedisBroker, run_worker: RunWorker, gate: Gate
) -> None:
    slow = declare(gate, "slow", "P0", share=0.5)
    ran: list[str] = []
    quick = fourlane.task(name="quick", service="other", tier="P2")(lambda: ran.append("quick"))
    run_worker(broker, "slow", "other", slots=4)
    slow.send_many([["slow"]] * 20)
    eventually(lambda: len(gate.begun) == 2)
    quick.send_many([[]] * 50)
    eventually(lambda: len(ran) == 50)
    assert gate.begun == ["slow"] * 2
    gate.let.release(20)
    eventually(lambda: len(gate.begun) == 20)


def test_jobs_over_the_share_let_those_behind_them_pass(broker: RedisBroker, run_worker: RunWorker, gate: Gate) -> None:
    """It shares its queue with another task; and no job is turned over and over."""
    slow = declare(gate, "mixed", "P1", share=0.25)
    ran: list[str] = []
    beside = fourlane.task(name="beside", service="mixed", tier="P1")(lambda: ran.append("beside"))
    loop = run_worker(broker, "mixed", "other", slots=4)
    slow.send_many([["slow"]] * 9)
    beside.send()
    eventually(lambda: ran == ["beside"])
    asks = loop.rounds.choices
    time.sleep(0.3)
    assert loop.rounds.choices - asks < 30
    for number in range(2, 10):
        assert gate.step() == "slow"
        assert len(gate.begun) == number
    gate.let.release()
    eventually(lambda: not broker.client.hlen(broker.store.service("mixed").jobs))


def test_a_long_backlog_over_the_share_does_not_hold_up_its_queue(
    broker: RedisBroker, run_worker: RunWorker, gate: Gate
) -> None:
    """Nor what waits in a lower tier, while the backlog lets others pass."""
    slow = declare(gate, "crowd", "P1", share=0.25)
    ran: list[str] = []
    beside = fourlane.task(name="beside", service="crowd", tier="P1")(lambda: ran.append("beside"))
    below = fourlane.task(name="below", service="other", tier="P2")(lambda: ran.append("below"))
    run_worker(broker, "crowd", "other", slots=4)
    slow.send_many([["slow"]] * 1_500)
    beside.send()
    eventually(lambda: gate.begun)
    below.send()
    eventually(lambda: ran, 5)
    assert ran == ["below"]
    eventually(lambda: ran == ["below", "beside"], 5)
    assert gate.begun == ["slow"]


class Owner:
    """Hears what an executor tells of its runs."""

    def __init__(self) -> None:
        self.ended: SimpleQueue[Outcome] = SimpleQueue()
        self.woken = threading.Event()

    def finished(self, run: Run, outcome: Outcome) -> None:
        if run.gated:
            run.leave_gate()
        self.ended.put(outcome)

    def mislaid(self) -> None: ...


@pytest.mark.parametrize("is_async", [False, True])
def test_many_jobs_over_the_share_are_told_at_once(broker: RedisBroker, is_async: bool) -> None:
    """The loop is woken for each that has to wait, as it is for one that ended; and no place is lost by it."""
    free = threading.Event()

    def plain() -> None:
        assert free.wait(10)

    async def later() -> None:
        while not free.is_set():
            await asyncio.sleep(0.01)

    fourlane.task(name="slow", share=0.5)(later if is_async else plain)
    owner = Owner()
    executor = Executor(broker, owner, slots=2, concurrency=2, on_low=owner.woken.set)
    executor.boot()
    service = Service("default", 0, "0123", "w", Contact(0.0))
    try:
        for round_ in range(3):
            free.clear()
            executor.start(service, [Leased(f"1a{round_}", b'["slow"]', b"", 0)])
            eventually(lambda: len(executor.running()) == 1 and executor.running()[0].started)
            for number in range(3):
                owner.woken.clear()
                executor.waiting = True
                executor.start(service, [Leased(f"1b{round_}{number}", b'["slow"]', b"", 0)])
                assert owner.woken.wait(5)
                assert isinstance(owner.ended.get(timeout=5), Postpone)
            free.set()
            assert owner.ended.get(timeout=5) == PLAIN
            eventually(lambda: executor.running() == [])
    finally:
        free.set()
        executor.close()


@pytest.mark.parametrize("share", [0, -0.5, 1.5, "half", True])
def test_a_share_is_checked_where_it_is_declared(broker: RedisBroker, share: Any) -> None:
    with pytest.raises(ValueError, match="share"):
        fourlane.task(name="wrong", share=share)(lambda: None)


# Settling that Redis refuses ----------------------------------------------------------------------------------


def test_a_settlement_that_redis_refuses_harms_no_other(broker: RedisBroker) -> None:
    """A time to live out of range, in the middle of a batch."""
    store, keys = broker.store, broker.store.service("default")
    ids = [f"1{n}" for n in range(5)]
    store.enqueue("default", 1, [part for i in ids for part in (i, b'["note",[]]')])
    link = store.connector.open(keys.jobs)
    turn = store.turn(link, "default", "me.0", Ask(5, "1", beat=True))
    assert [leased.entry for leased in turn.jobs] == ids
    others = [(i, Result(b"{}", 2**63 - 1 if i == ids[2] else 60_000)) for i in ids[1:]]
    turn = store.turn(link, "default", "me.0", Ask(), done=[ids[0]], others=others)
    assert [entry for entry, _ in turn.faults] == [ids[2]]
    assert turn.refused == []
    assert store.held("default", "me.0") == {ids[2]}
    assert not broker.client.exists(keys.result(ids[2]))
    assert all(broker.client.pttl(keys.result(i)) > 0 for i in (ids[1], ids[3], ids[4]))


def test_a_job_whose_end_cannot_be_written_is_a_dead_letter_that_says_so(
    broker: RedisBroker, run_worker: RunWorker
) -> None:
    """Redis has another kind of value where the records of retries belong."""
    ran: list[int] = []

    @fourlane.task(backoff=fourlane.Backoff(0, 0))
    def fails(number: int) -> None:
        raise ValueError("as planned")

    @fourlane.task
    def fine(number: int) -> None:
        ran.append(number)

    broker.client.set(broker.store.service("default").records, "not a hash")
    run_worker(broker)
    job = fails.send(1)
    fine.send_many([[n] for n in range(20)])
    eventually(lambda: len(ran) == 20)
    eventually(lambda: broker.client.zcard(broker.store.service("default").dead[1]) == 1)
    broker.client.delete(broker.store.service("default").records)
    assert job.status() is State.DEAD
    assert "Redis refused" in job.info().detail
    fine.send(21)
    eventually(lambda: len(ran) == 21)


# Cancelling, counting -----------------------------------------------------------------------------------------


def test_every_cancelled_job_is_told_however_many_marks_there_are(broker: RedisBroker) -> None:
    store, keys = broker.store, broker.store.service("default")
    now = int(time.time() * 1000)

    def mark(ids: list[str], at_ms: int) -> None:
        broker.client.hset(keys.jobs, mapping=dict.fromkeys(ids, '["t"]'))
        broker.client.zadd(keys.cancels, dict.fromkeys(ids, at_ms))

    mark([f"1old{n}" for n in range(2_500)], now - 600_000)
    link = store.connector.open(keys.workers)
    told = store.beat(link, "default", ["me.0"], SILENCE_MS)
    assert len(told.cancelled) == 2_500  # who begins hears of all
    mark(["1new"], now)
    later = store.beat(link, "default", ["me.0"], SILENCE_MS, told.since_ms)
    assert later.cancelled == ["1new"]
    mark([f"1many{n}" for n in range(1_200)], now)
    assert len(store.beat(link, "default", ["me.0"], SILENCE_MS, told.since_ms).cancelled) == 1_201
    # Those that ended before are forgotten.
    broker.client.hdel(keys.jobs, *[f"1many{n}" for n in range(1_200)])
    assert store.beat(link, "default", ["me.0"], SILENCE_MS, told.since_ms).cancelled == ["1new"]
    assert broker.client.zcard(keys.cancels) == 2_501


def test_a_stop_loses_no_count(broker: RedisBroker, run_worker: RunWorker) -> None:
    done: list[int] = []
    task = fourlane.task(name="counted", tier="P1")(done.append)
    loop = run_worker(broker, "default", "other")
    stats = broker.store.service("default").stats
    task.send_many([[n] for n in range(300)])
    eventually(lambda: len(done) == 300)
    loop.stop()
    eventually(lambda: int(broker.client.hget(stats, "done:1") or 0) == 300)


def test_what_is_done_is_counted_while_there_is_always_a_little_to_do(
    broker: RedisBroker, run_worker: RunWorker
) -> None:
    """Its worker may die before it is idle, and looks."""
    done: list[int] = []
    task = fourlane.task(name="counted", tier="P1")(done.append)
    run_worker(broker, "default", "other")
    stats = broker.store.service("default").stats

    def counted() -> int:
        task.send(len(done))
        return int(broker.client.hget(stats, "done:1") or 0)

    eventually(counted, interval=0.05)
    eventually(lambda: counted() > len(done) - 60, interval=0.05)  # those of some two seconds are not


def test_a_result_that_the_server_does_not_take_harms_no_other(start_server: StartServer) -> None:
    """The server refuses the whole call, and closes the connection."""
    server = start_server(config={"proto-max-bulk-len": "1mb"})
    broker = RedisBroker(url=server.url, defaults=Defaults(max_result_bytes=10_000_000))
    ran: list[int] = []

    def large() -> str:
        return "x" * 2_000_000

    too_large = fourlane.task(name="large", broker=broker, result_ttl_ms=60_000)(large)
    small = fourlane.task(name="small", broker=broker, result_ttl_ms=60_000)(ran.append)
    loop = Loop(broker, [too_large.queue], name="w", slots=4, grace_seconds=1)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        job = too_large.send()
        others = small.send_many([[n] for n in range(50)])
        assert [other.result(10) for other in others] == [None] * 50
        eventually(lambda: job.status() is State.DEAD)
        assert "Redis refused" in job.info().detail
        assert len(ran) == 50
    finally:
        loop.stop()
        thread.join(10)
