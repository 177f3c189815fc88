"""Handlers that run straight from SQS."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

import pytest

import fourlane
from fourlane.errors import RedisUnavailable
from fourlane.events import catalogue, hooks, messages
from fourlane.events.aws import Aws
from fourlane.events.current import current_event
from fourlane.events.direct import Direct
from fourlane.events.envelope import Event
from fourlane.events.names import EventQueue
from fourlane.events.provision import ensure
from fourlane.events.publisher import Publisher
from fourlane.queues.broker import RedisBroker
from fourlane.queues.claims import Claims
from fourlane.retry import Backoff
from tests.events import fault_proxy as faults
from tests.events.conftest import Receive, drain, queue_of
from tests.events.fault_proxy import FaultProxy
from tests.events.test_consuming import Seen, handle, in_sqs, seen  # noqa: F401
from tests.servers import eventually
from tests.worker.conftest import RunWorker

AT_ONCE = Backoff(0, 0)


@pytest.fixture
def event(event: str) -> str:
    return event.replace("platform", "audit")


@pytest.fixture
def direct(aws: Aws, broker: RedisBroker) -> Any:
    """Makes a Direct whose receives a test does by hand."""
    made: list[tuple[Direct, threading.Event]] = []

    def make(**options: Any) -> tuple[Direct, threading.Event]:
        stopping = threading.Event()
        worker = Direct(aws, broker.store, catalogue.handlers(), stopping, name=f"w{len(made)}", **options)
        made.append((worker, stopping))
        return worker, stopping

    yield make
    for worker, stopping in made:
        stopping.set()
        worker.stop(0.2)


def test_audit_runs_straight_from_sqs(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, run_receivers: Receive
) -> None:
    jobs: list[Any] = []

    @fourlane.on_event(event)
    def plain(given: Event) -> None:
        jobs.append(fourlane.current_job())

    @fourlane.on_event(event)
    async def asynchronous(given: Event) -> None:
        jobs.append(fourlane.current_job())

    run_receivers(broker, direct=True)
    publisher.publish(event, 1, id="11111111-1111-1111-1111-111111111111")
    eventually(lambda: len(jobs) == 2)
    eventually(lambda: in_sqs(aws, queue) == 0)
    assert [j.task for j in jobs] == [f"on {event}: plain", f"on {event}: asynchronous"]
    assert jobs[0].id == f"11111111-1111-1111-1111-111111111111:on {event}: plain"
    assert (jobs[0].queue, jobs[0].attempt) == (f"local.events.{event}", 1)
    assert fourlane.current_job() is None


def test_both_ways_at_once(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen,  # noqa: F811
    run_receivers: Receive, run_worker: RunWorker,
) -> None:  # fmt: skip
    handle(event, seen, task_name="straight")
    handle(event, seen, task_name="by job", through="queue")
    run_receivers(broker, direct=True)
    run_worker(broker)
    publisher.publish_many(event, range(15))
    eventually(lambda: len(seen.events) == 30)
    eventually(lambda: in_sqs(aws, queue) == 0)


def test_visibility_is_extended_while_a_handler_runs(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, proxy: FaultProxy,
    run_receivers: Receive,
) -> None:  # fmt: skip
    began: list[int] = []

    @fourlane.on_event(event)
    def long(given: Event) -> None:
        began.append(given.data)
        time.sleep(3)

    publisher.publish_many(event, range(8))
    run_receivers(broker, direct=True, visibility_seconds=1, slots=16)  # others are free to take them again
    eventually(lambda: len(began) == 8)
    eventually(lambda: in_sqs(aws, queue) == 0)
    assert sorted(began) == list(range(8)), "none was delivered twice"
    assert proxy.calls["ChangeMessageVisibilityBatch"] < 8 * 3, "in batches"


def test_an_error_gives_it_back_and_the_last_one_buries_it(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, direct: Any
) -> None:
    calls: list[str] = []

    @fourlane.on_event(event)
    def fails(given: Event) -> None:
        calls.append("fails")
        raise RuntimeError("the disk is full")

    @fourlane.on_event(event)
    def works(given: Event) -> None:
        calls.append("works")

    publisher.publish(event, 1)
    worker, _ = direct(max_failures=3, backoff=AT_ONCE)
    for receives in (1, 2, 3):
        [message] = eventually(lambda: messages.receive(aws, queue, wait_seconds=1))
        assert message.receives == receives
        worker.take(queue, [message])
        eventually(lambda: not worker.in_hand())
    assert calls == ["fails", "works", "fails", "fails"], "what succeeded is not repeated"
    [buried] = drain(aws, queue.dead_letters)
    assert buried.reason == "after 3 failure(s): RuntimeError: the disk is full"
    assert in_sqs(aws, queue) == 0


def test_receives_that_ended_otherwise_are_no_failures(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen,  # noqa: F811
    direct: Any,
) -> None:  # fmt: skip
    handle(event, seen)
    publisher.publish(event, 1)
    for _ in range(12):  # killed receivers, deploys
        assert messages.receive(aws, queue, visibility_seconds=0)
    worker, _ = direct()
    [message] = messages.receive(aws, queue)
    assert message.receives == 13
    worker.take(queue, [message])
    eventually(lambda: len(seen.events) == 1 and in_sqs(aws, queue) == 0)
    assert not drain(aws, queue.dead_letters)


def test_each_handler_has_its_own_failures(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, direct: Any
) -> None:
    """One that has ended is not called again, and one that may succeed still gets its chances."""
    calls: list[str] = []

    @fourlane.on_event(event)
    def refuses(given: Event) -> None:
        calls.append("refuses")
        raise fourlane.Reject("never")

    @fourlane.on_event(event)
    def recovers(given: Event) -> None:
        calls.append(f"recovers {job.attempt}" if (job := fourlane.current_job()) else "")
        if len(calls) < 4:
            raise RuntimeError("not yet")

    publisher.publish(event, 1)
    worker, _ = direct(max_failures=3, backoff=AT_ONCE)
    for _ in range(3):
        [message] = eventually(lambda: messages.receive(aws, queue, wait_seconds=1))
        worker.take(queue, [message])
        eventually(lambda: not worker.in_hand())
    assert calls == ["refuses", "recovers 1", "recovers 2", "recovers 3"]
    [buried] = drain(aws, queue.dead_letters)
    assert buried.reason == "never"
    key = broker.store.keys.tries(message.id)
    assert broker.store.connector.command(key, "EXISTS", key) == 0


def test_what_its_queue_keeps_no_longer_is_buried_not_lost(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, direct: Any
) -> None:
    @fourlane.on_event(event)
    def waits(given: Event) -> None:
        raise fourlane.Snooze(4 * 86_400)

    publisher.publish(event, 1)
    worker, _ = direct()
    worker.take(queue, messages.receive(aws, queue))
    [buried] = eventually(lambda: drain(aws, queue.dead_letters))
    assert "keeps it no longer" in buried.reason


def test_steering(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, direct: Any, proxy: FaultProxy
) -> None:
    errors: list[Exception] = [fourlane.Reject("never"), fourlane.Snooze(77)]

    @fourlane.on_event(event)
    def steers(given: Event) -> None:
        raise errors.pop()

    asked: list[int] = []

    def see(call: faults.Call) -> tuple[int, bytes]:
        asked.extend(e["VisibilityTimeout"] for e in call.json["Entries"])
        return call.forward(call.json | {"Entries": [e | {"VisibilityTimeout": 0} for e in call.json["Entries"]]})

    proxy.always("ChangeMessageVisibilityBatch", see)
    worker, _ = direct()
    publisher.publish(event, 1)
    worker.take(queue, messages.receive(aws, queue, wait_seconds=1))
    eventually(lambda: asked == [77])
    worker.take(queue, eventually(lambda: messages.receive(aws, queue, wait_seconds=1)))
    [buried] = eventually(lambda: drain(aws, queue.dead_letters))
    assert buried.reason == "never"


def test_what_sqs_delivers_twice_is_handled_once(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, direct: Any, proxy: FaultProxy
) -> None:
    entered, go = threading.Semaphore(0), threading.Event()
    calls: list[Any] = []

    @fourlane.on_event(event)
    def slow(given: Event) -> None:
        calls.append(given.data)
        entered.release()
        go.wait(10)

    publisher.publish(event, "x")
    [message] = messages.receive(aws, queue, wait_seconds=1)
    first, _ = direct()
    second, _ = direct()
    first.take(queue, [message])
    assert entered.acquire(timeout=5)
    second.take(queue, [message])  # meanwhile, elsewhere
    first.take(queue, [message])  # meanwhile, here
    eventually(lambda: not second.in_hand() and first.in_hand() == 1)
    go.set()
    eventually(lambda: not first.in_hand())
    second.take(queue, [message])  # afterwards
    eventually(lambda: not second.in_hand())
    assert calls == ["x"]


def test_without_redis_it_runs_all_the_same(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen,  # noqa: F811
    direct: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    handle(event, seen)

    def away(*_: Any) -> Any:
        raise RedisUnavailable("away")

    for name in ("claim", "done"):
        monkeypatch.setattr(Claims, name, away)
    publisher.publish(event, 1)
    worker, _ = direct()
    worker.take(queue, messages.receive(aws, queue, wait_seconds=1))
    eventually(lambda: seen.data() == [1])
    eventually(lambda: in_sqs(aws, queue) == 0)


def test_a_deploy_gives_back_what_has_not_begun(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, direct: Any
) -> None:
    entered, told = threading.Event(), threading.Event()

    @fourlane.on_event(event)
    def waits(given: Event) -> None:
        entered.set()
        job = fourlane.current_job()
        assert job
        if job.cancel_token.wait(10):
            told.set()
        job.cancel_token.raise_if_set()

    publisher.publish_many(event, range(3))
    worker, stopping = direct(slots=1)
    received = []
    while len(received) < 3:
        received += messages.receive(aws, queue, wait_seconds=1)
    worker.take(queue, received)
    assert entered.wait(30)
    stopping.set()
    began = time.monotonic()
    stopper = threading.Thread(target=worker.stop, args=(2.0,))
    stopper.start()
    again: list[Any] = []
    eventually(lambda: again.extend(messages.receive(aws, queue)) or len(again) == 2)
    assert time.monotonic() - began < 1.5, "those that had not begun are back at once"
    stopper.join()
    assert told.is_set()
    assert eventually(lambda: messages.receive(aws, queue)), "the one that ran is back too"
    assert worker.room(queue) == 0


def test_a_handler_that_ends_within_the_grace_is_done(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, direct: Any
) -> None:
    entered, go = threading.Event(), threading.Event()

    @fourlane.on_event(event)
    def waits(given: Event) -> None:
        entered.set()
        go.wait(5)

    publisher.publish(event, 1)
    worker, stopping = direct()
    worker.take(queue, messages.receive(aws, queue, wait_seconds=1))
    entered.wait(5)
    stopping.set()
    threading.Timer(0.2, go.set).start()
    worker.stop(5.0)
    assert in_sqs(aws, queue) == 0


@pytest.mark.parametrize("through", ["direct", "queue"])
def test_what_a_handler_returns_to_be_awaited_runs_before_the_event_is_deleted(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, direct: Any, through: Any,
    run_worker: RunWorker,
) -> None:  # fmt: skip
    ran: list[tuple[str, Any, int]] = []
    heard: list[str] = []

    async def later(given: Event) -> None:
        await asyncio.sleep(0.01)
        ran.append((given.data, current_event(), in_sqs(aws, queue)))

    fourlane.on_event(event, task_name="async", through=through)(later)
    fourlane.on_event(event, task_name="wrapped", through=through)(lambda given: later(given))

    class Watch(hooks.Hooks):
        def handling(self, event: Event, handler: str) -> None:
            heard.append(f"{handler} begins")

        def handled(self, event: Event, handler: str, seconds: float, error: BaseException | None) -> None:
            heard.append(f"{handler} {'ends' if seconds >= 0.01 else 'ends too early'}")

    hooks.add(watching := Watch())
    publisher.publish(event, "x")
    worker, _ = direct(slots=1)
    worker.take(queue, messages.receive(aws, queue, wait_seconds=1))
    if through == "queue":
        run_worker(broker)
    eventually(lambda: len(ran) == 2 and not worker.in_hand())
    assert [data for data, _, _ in ran] == ["x", "x"]
    assert all(handled is not None for _, handled, _ in ran)
    if through == "direct":
        assert [there for _, _, there in ran] == [1, 1]
    assert in_sqs(aws, queue) == 0
    hooks.remove(watching)
    assert sorted(heard) == ["async begins", "async ends", "wrapped begins", "wrapped ends"]


def test_a_handler_that_returns_a_generator_keeps_its_event(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, direct: Any
) -> None:
    fourlane.on_event(event, task_name="generator")(lambda given: (x for x in [1]))
    publisher.publish(event, 1)
    worker, _ = direct(slots=1)
    worker.take(queue, messages.receive(aws, queue, wait_seconds=1))
    eventually(lambda: not worker.in_hand())
    [buried] = drain(aws, queue.dead_letters)
    assert "nothing of it ran" in buried.reason


@pytest.mark.parametrize("kind", ["plain", "async", "wrapped async"])
def test_a_time_limit_interrupts(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, direct: Any,
    caplog: pytest.LogCaptureFixture, kind: str,
) -> None:  # fmt: skip
    def plain(given: Event) -> None:
        while True:
            time.sleep(0.01)

    async def later(given: Event) -> None:
        await asyncio.sleep(30)

    hangs = {"plain": plain, "async": later, "wrapped async": lambda given: later(given)}[kind]
    fourlane.on_event(event, timeout_ms=100, task_name="hangs")(hangs)
    publisher.publish(event, 1)
    worker, _ = direct(slots=1)
    worker.take(queue, messages.receive(aws, queue, wait_seconds=1))
    eventually(lambda: not worker.in_hand())
    assert "TimeLimitExceeded" in caplog.text
    assert in_sqs(aws, queue) == 1


def test_it_stops_before_the_twelve_hours_of_sqs(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, direct: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    reasons: list[str] = []
    begun = threading.Event()

    @fourlane.on_event(event)
    def endless(given: Event) -> None:
        job = fourlane.current_job()
        assert job
        try:
            begun.set()
            while True:
                time.sleep(0.01)
        finally:
            reasons.append(job.cancel_token.reason)

    publisher.publish(event, 1)
    worker, _ = direct()
    worker.take(queue, messages.receive(aws, queue, wait_seconds=1))
    assert begun.wait(30)
    monkeypatch.setattr("fourlane.events.visibility._LAST_SECONDS", 0)
    eventually(lambda: reasons == ["time"])
    assert eventually(lambda: messages.receive(aws, queue)), "given back"


def test_fifo_one_at_a_time_in_order(
    aws: Aws, broker: RedisBroker, publisher: Publisher, event: str, run_receivers: Receive
) -> None:
    fourlane.events.declare(event, fifo=True)
    ensure(aws, queue_of(event, fifo=True))
    got: list[int] = []
    failures = [RuntimeError("once")]

    @fourlane.on_event(event)
    def on(given: Event) -> None:
        if given.data == 3 and failures:
            raise failures.pop()
        got.append(given.data)

    publisher.publish_many(event, range(8), key="one")
    run_receivers(broker, direct=True)
    eventually(lambda: len(got) == 8, 20)
    assert got == list(range(8))


def test_long_delays_go_by_redis(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, seen: Seen,  # noqa: F811
    run_receivers: Receive,
) -> None:  # fmt: skip
    handle(event, seen)
    run_receivers(broker, direct=True)
    publisher.publish(event, 1, delay=timedelta(days=2))
    eventually(lambda: broker.client.zcard(broker.store.service("default").delayed) == 1)
    eventually(lambda: in_sqs(aws, queue) == 0)
    assert not seen.events


def test_hooks_hear_of_handlers(
    aws: Aws, broker: RedisBroker, publisher: Publisher, queue: EventQueue, event: str, run_receivers: Receive
) -> None:
    heard: list[Any] = []

    class Watch(hooks.Hooks):
        def handled(self, event: Event, handler: str, seconds: float, error: BaseException | None) -> None:
            heard.append((event.data, handler, error))

    @fourlane.on_event(event)
    def on(given: Event) -> None: ...

    hooks.add(watching := Watch())
    try:
        run_receivers(broker, direct=True)
        publisher.publish(event, 5)
        eventually(lambda: heard == [(5, f"on {event}: on", None)])
    finally:
        hooks.remove(watching)
