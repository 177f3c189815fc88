"""What the worker's loop hears, settles and gives back while something else goes wrong or takes long."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from queue import SimpleQueue
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from dramatiq.middleware import Middleware

import fourlane
from fourlane import codec
from fourlane.job import State
from fourlane.names import Queue, Tier
from fourlane.outcome import PLAIN, Back, Outcome, Retry
from fourlane.queues import browse
from fourlane.queues.broker import RedisBroker
from fourlane.queues.contact import Contact
from fourlane.queues.turn import Ask, Leased
from fourlane.worker.loop.loop import Loop
from fourlane.worker.run.plan import Plan
from fourlane.worker.run.run import Run
from tests.conftest import StartServer
from tests.proxy import FaultyProxy
from tests.servers import eventually
from tests.worker.conftest import RunWorker


class Counted:
    """Calls of a method, which does its work as before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, method: str) -> None:
        self.calls = 0
        real = getattr(owner, method)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, method, counted)


def idle(loop: Loop, broker: RedisBroker) -> bool:
    """Redis has it wait, for all of its services, and no token is on its way to it."""
    [wait] = loop.waits.waits
    if any(
        service.tiers.maybe or service.hearing.listens != service.hearing.all or service.agenda.due_at < math.inf
        for service in loop.services
    ):
        return False
    clients = broker.client.client_list(client_id=[wait._number or 0]) if wait.armed else []
    return any("b" in client["flags"] for client in clients)


# Hearing ----------------------------------------------------------------------------------------------------------


def test_a_token_on_a_lost_connection_is_not_missed(
    broker: RedisBroker, redis_url: str, namespace: str, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    """Of whichever service it was, and of a delayed job too."""
    behind = RedisBroker(url=proxy.url(redis_url), namespace=namespace)
    ran: list[str] = []
    tasks = {}
    for name in ("one", "two"):
        fourlane.task(service=name, name=name, broker=behind)(ran.append)
        tasks[name] = fourlane.task(service=name, name=name, broker=broker)(ran.append)
    loop = run_worker(behind, "one", "two", slots=1)
    for number, (service, delay_ms) in enumerate((("one", 0), ("two", 0), ("two", 300)), 1):
        # A turn that was under way in the dark ends after 5 s.
        eventually(lambda: idle(loop, broker))
        proxy.blackhole(requests=False)
        keys = broker.store.service(service)
        if delay_ms:
            tasks[service].send_with_options(args=(service,), delay=delay_ms)
        else:
            tasks[service].send(service)
        eventually(lambda keys=keys: not broker.client.exists(keys.wake[1], keys.news))  # type: ignore[misc]
        proxy.heal()
        eventually(lambda number=number: len(ran) == number, 12)  # type: ignore[misc]
    assert ran == ["one", "two", "two"]
    loop.stop()


def test_a_wake_key_of_a_wrong_type_harms_no_other_service(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    fine = fourlane.task(service="fine", name="fine", broker=broker)(ran.append)
    fourlane.task(service="wrong", name="wrong", broker=broker)(ran.append)
    for wake in broker.store.service("wrong").wake:
        broker.client.set(wake, "no sorted set")
    turns = Counted(monkeypatch, broker.store, "turn")
    loop = run_worker(broker, "fine", "wrong")
    eventually(lambda: loop.waits.armed() and all(not service.tiers.maybe for service in loop.services))
    fine.send("now")
    eventually(lambda: ran == ["now"], 1.5)
    fine.send_with_options(args=("later",), delay=300)
    eventually(lambda: ran == ["now", "later"], 1.5)
    opened, before = Counted(monkeypatch, broker.store.connector, "open"), turns.calls
    assert not threading.Event().wait(0.8)
    assert turns.calls - before < 10
    assert opened.calls < 3
    # And when it is mended that service is heard at once again.
    broker.client.delete(*broker.store.service("wrong").wake)
    broker.actors["wrong"].send("mended")
    eventually(lambda: ran[-1] == "mended")
    eventually(lambda: loop.waits.armed() and all(not service.tiers.maybe for service in loop.services))
    broker.actors["wrong"].send("again")
    eventually(lambda: ran[-1] == "again")


def test_the_first_wait_of_a_user_who_may_not_end_waits_is_short(start_server: StartServer) -> None:
    server = start_server()
    admin = RedisBroker(url=server.url)
    admin.client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", "-client")
    parts = urlsplit(server.url)
    broker = RedisBroker(url=urlunsplit(parts._replace(netloc=f"app:secret@{parts.hostname}:{parts.port}")))
    let, ran = threading.Semaphore(0), []

    def run(name: str) -> None:
        ran.append(name)
        assert let.acquire(timeout=20)

    one = fourlane.task(service="one", name="one", broker=broker)(run)
    one.send_many([["first"]] * 3)
    loop = Loop(broker, [Queue(s, t) for s in ("one", "two") for t in Tier], name="w", slots=1, grace_seconds=1)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        eventually(lambda: ran and loop.waits.armed())
        let.release(3)
        eventually(lambda: len(ran) == 3 and not admin.client.hlen(broker.store.service("one").jobs))
        one.send("next")
        eventually(lambda: ran[-1] == "next")
    finally:
        loop.stop()
        let.release(9)
        thread.join(10)
        broker.close()


def test_a_service_that_is_blocked_costs_no_rounds(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is heard of it meanwhile: here that a delayed job is due."""
    loop = run_worker(broker, "fine", "wrong")
    eventually(lambda: loop.waits.armed())
    keys = broker.store.service("wrong")
    broker.client.delete(keys.workers)
    broker.client.set(keys.workers, "no sorted set")
    broker.client.zadd(keys.news, {"d": 0})
    eventually(lambda: "blocked for" in caplog.text)
    broker.client.zadd(keys.news, {"d": 0})
    eventually(lambda: not broker.client.exists(keys.news))
    sleeps = Counted(monkeypatch, loop.waits, "sleep")
    assert not threading.Event().wait(0.5)
    assert sleeps.calls < 20


# Settling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [[], ["done"]])
def test_an_entry_ends_once_in_a_turn(broker: RedisBroker, first: list[str]) -> None:
    """As the first of its outcomes says."""
    store, keys = broker.store, broker.store.service("default")
    ids = ["1a", "1b"]
    store.enqueue("default", 1, [part for i in ids for part in (i, b'["note",[]]')])
    link = store.connector.open(keys.jobs)
    store.turn(link, "default", "me.0", Ask(2, "1", beat=True))
    others: list[tuple[str, Outcome]] = [("1b", Retry(60_000, b"", "failed")), ("1b", Back()), ("1a", Back())]
    turn = store.turn(link, "default", "me.0", Ask(), done=["1a"] if first else [], others=others)
    assert turn.refused == (["1b", "1a"] if first else ["1b"])
    assert broker.client.zcard(keys.delayed) == 1
    assert broker.client.lrange(keys.ready[1], 0, -1) == ([] if first else [b"1a"])
    link.close()


def test_a_job_that_ends_with_the_grace_ends_once(broker: RedisBroker, run_worker: RunWorker) -> None:
    """While others are given back it fails: it is retried, or given back, and not both."""
    let, ends = {"first": threading.Event(), "second": threading.Event()}, []

    @fourlane.task
    def fails(name: str) -> None:
        assert let[name].wait(20)
        ends.append(name)
        raise ValueError(name)

    class LetsTheSecondEnd(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "given-back" in record.getMessage() and not let["second"].is_set():
                let["second"].set()
                eventually(lambda: sum(run is not None for run in loop.executor.busy) < 2)

    loop = run_worker(broker, slots=2, grace_seconds=0.1)
    jobs = {name: fails.send(name) for name in ("first", "second")}
    eventually(lambda: loop.executor.running_threads() == 2)
    handler = LetsTheSecondEnd()
    logging.getLogger("fourlane.worker").addHandler(handler)
    try:
        loop.stop()
        keys = broker.store.service("default")
        eventually(lambda: not broker.client.exists(keys.workers))
    finally:
        logging.getLogger("fourlane.worker").removeHandler(handler)
        let["first"].set()
    places = [*broker.client.lrange(keys.ready[1], 0, -1), *broker.client.zrange(keys.delayed, 0, -1)]
    assert sorted(place.decode().partition("|")[0] for place in places) == sorted(job.id for job in jobs.values())


class Slow(Middleware):
    """Takes its time when a message was processed."""

    keeps_thread = False

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        time.sleep(0.3)


@pytest.mark.parametrize("kind", ["async", "told in a thread", "plain"])
def test_a_job_whose_function_ends_with_the_grace_is_done(
    broker: RedisBroker, run_worker: RunWorker, kind: str
) -> None:
    ends: list[int] = []

    async def last_step() -> str:
        await asyncio.sleep(0)
        ends.append(1)
        time.sleep(0.3 if kind == "async" else 0)  # the grace ends meanwhile, or while middleware is told
        return "ended"

    def here() -> str:
        ends.append(1)
        return "ended"

    if kind != "async":
        broker.add_middleware(Slow())
    job = fourlane.task(name="last", result_ttl_ms=60_000)(here if kind == "plain" else last_step).send()
    loop = run_worker(broker, grace_seconds=0.1)
    eventually(lambda: ends)
    loop.stop()
    assert job.result(5) == "ended"
    eventually(lambda: loop.executor.stopping)
    assert browse.unfinished(broker.store, "default") == 0
    assert ends == [1]


def test_what_is_given_back_does_not_come_to_its_end_here(broker: RedisBroker, run_worker: RunWorker) -> None:
    steps: list[str] = []

    @fourlane.task(result_ttl_ms=60_000)
    async def long() -> None:
        steps.append("began")
        try:
            await asyncio.sleep(0.4)
            steps.append("ended")
        finally:
            steps.append("finally")

    job = long.send()
    loop = run_worker(broker, grace_seconds=0.1)
    eventually(lambda: steps)
    loop.stop()
    eventually(lambda: "finally" in steps)
    assert steps == ["began", "finally"]
    eventually(lambda: loop.executor.stopping)
    assert job.status() is State.READY


def test_a_stop_waits_for_what_a_cut_coroutine_books(broker: RedisBroker, run_worker: RunWorker) -> None:
    begun, booked = [], []

    @fourlane.task
    async def pays() -> None:
        begun.append(1)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.to_thread(time.sleep, 0.3)
            booked.append(1)

    for _ in range(3):
        pays.send()
    loop = run_worker(broker, grace_seconds=0.1)
    eventually(lambda: len(begun) == 3)
    loop.stop()
    eventually(lambda: loop.executor.stopping)
    assert len(booked) == 3
    assert browse.unfinished(broker.store, "default") == 3  # given back


def test_jobs_that_redis_refused_to_count_as_done_are_not_counted(broker: RedisBroker, run_worker: RunWorker) -> None:
    """Its lease was lost, and it ran again: that is one job."""
    let, ran = threading.Semaphore(0), []

    @fourlane.task
    def note() -> None:
        ran.append(1)
        assert let.acquire(timeout=20)

    loop = run_worker(broker, name="w", slots=1)
    note.send()
    eventually(lambda: ran)
    store, keys = broker.store, broker.store.service("default")
    broker.client.zadd(keys.workers, {"w.0": 1})
    assert store.reclaim("default", "w.0", "it fell silent") == (1, [])
    let.release(9)
    eventually(lambda: not broker.client.hlen(keys.jobs))
    loop.stop()
    eventually(lambda: not broker.client.exists(keys.workers))
    assert len(ran) == 2
    assert broker.client.hget(keys.stats, "done:1") == b"1"


def test_a_stop_while_redis_refuses_a_service_is_calm(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fourlane.worker.loop.stopping._LAST_SECONDS", 0.5)
    let, begun = threading.Event(), []

    @fourlane.task
    def note() -> None:
        begun.append(1)
        assert let.wait(20)

    loop = run_worker(broker, name="w", slots=1, grace_seconds=0.5)
    note.send()
    eventually(lambda: begun)
    leased = broker.store.service("default").leased("w.0")
    broker.client.delete(leased)
    broker.client.set(leased, "no set")
    asked = [Counted(monkeypatch, broker.store, name) for name in ("turn", "held")]
    sleeps = Counted(monkeypatch, loop.waits, "sleep_deaf")
    loop.stop()
    let.set()
    eventually(lambda: loop.executor.stopping)
    assert sum(counted.calls for counted in asked) < 12
    assert sleeps.calls < 50


def test_jobs_begin_before_the_dead_are_seen_to(broker: RedisBroker, run_worker: RunWorker, monkeypatch: Any) -> None:
    """To give back what another worker held may last, and what was leased with it need not wait."""
    begun, reclaimed = threading.Event(), []
    note = fourlane.task(name="note")(begun.set)
    real = broker.store.reclaim

    def reclaim(*args: Any, **kwargs: Any) -> Any:
        reclaimed.append(begun.wait(1))
        return real(*args, **kwargs)

    monkeypatch.setattr(broker.store, "reclaim", reclaim)
    link = broker.store.connector.open(b"")
    broker.store.turn(link, "default", "dead.0", Ask(beat=True, silence_ms=1, idle_silence_ms=1))
    link.close()
    note.send()
    proof = Contact(time.monotonic() - 60)
    proof.heard_at = time.monotonic()
    monkeypatch.setattr("fourlane.worker.loop.services.Contact", lambda now: proof)
    run_worker(broker)
    eventually(lambda: reclaimed)
    assert reclaimed == [True]


# Leases -----------------------------------------------------------------------------------------------------------


def test_a_late_word_of_lost_leases_harms_no_new_ones(broker: RedisBroker, run_worker: RunWorker) -> None:
    """Redis is asked: what is held by now may be newer than the word."""
    let, ran = threading.Event(), []

    @fourlane.task
    def note() -> None:
        ran.append(fourlane.current_job())
        assert let.wait(20)

    loop = run_worker(broker, name="w", slots=1)
    sent = note.send()
    eventually(lambda: ran)
    turned_at = loop.turned_at
    loop.told_lost("default", "w.0")
    eventually(lambda: loop.turned_at > turned_at)
    assert not ran[0].cancel_token
    let.set()
    eventually(lambda: sent.status() is State.UNKNOWN)
    assert len(ran) == 1
    # And where it is so, the jobs are told.
    let.clear()
    note.send()
    eventually(lambda: len(ran) == 2)
    broker.client.zadd(broker.store.service("default").workers, {"w.0": 1})
    broker.store.reclaim("default", "w.0", "it fell silent")
    loop.told_lost("default", "w.0")
    eventually(lambda: ran[1].cancel_token)
    let.set()
    eventually(lambda: len(ran) == 3)


def test_a_job_that_a_thread_is_just_taking_is_not_given_back(
    broker: RedisBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment it is in no place where the loop could find it."""
    ran, held, taken = [], threading.Event(), []

    @fourlane.task
    def note() -> None:
        ran.append(1)

    real = broker.store.held

    def asks(service: str, name: str) -> set[str]:
        answer = real(service, name)
        held.set()
        return answer

    class Slow(SimpleQueue):  # type: ignore[type-arg]
        def get(self, *args: Any, **kwargs: Any) -> Any:
            run = super().get(*args, **kwargs)
            if run is not None and not taken:
                taken.append(run)
                loop.mislaid()
                assert held.wait(30)
            return run

    broker.store.held = asks  # type: ignore[method-assign]
    monkeypatch.setattr("fourlane.worker.run.slots.SimpleQueue", Slow)
    loop = Loop(broker, [Queue("default", tier) for tier in Tier], name="w", slots=1, grace_seconds=1)
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        sent = note.send()
        eventually(lambda: held.is_set() and sent.status() is State.UNKNOWN)
        assert ran == [1]
    finally:
        loop.stop()
        thread.join(10)


def test_a_late_end_under_a_lost_lease_hides_no_job_that_nobody_here_knows(broker: RedisBroker) -> None:
    """The job was leased again, under a new name, and that reply was lost: it is given back."""
    ran = threading.Event()
    note = fourlane.task(name="note")(ran.set)
    sent = note.send()
    keys = broker.store.service("default")
    broker.client.lrem(keys.ready[1], 0, sent.id)
    broker.client.sadd(keys.leased("w.1"), sent.id)
    loop = Loop(broker, [Queue("default", tier) for tier in Tier], name="w", slots=1, grace_seconds=1)
    service = loop.services[0]
    late = Run(service, Leased(sent.id, b"", b"", 0), codec.Envelope("note"), Plan(broker, note))
    service.begin_anew()
    service.finished.append((late, PLAIN))
    service.fall_out_of_step()
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    try:
        assert ran.wait(30)
        eventually(lambda: sent.status() is State.UNKNOWN)
    finally:
        loop.stop()
        thread.join(10)
