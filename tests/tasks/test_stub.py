"""Tasks in unit tests on dramatiq's StubBroker: nothing of them reaches a Redis."""

from __future__ import annotations

from collections.abc import Iterator

import dramatiq
import dramatiq.broker
import pytest
from dramatiq.brokers.redis import RedisBroker as DramatiqsRedisBroker
from dramatiq.brokers.stub import StubBroker

import fourlane
from fourlane.queues.broker import RedisBroker
from fourlane.tasks import task as tasks


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubBroker]:
    made = StubBroker()
    monkeypatch.setattr(dramatiq.broker, "global_broker", made)
    monkeypatch.setattr(tasks, "_beside", None)
    yield made
    made.close()


def test_tasks_are_declared_on_a_global_stub_broker(stub: StubBroker) -> None:
    ran: list[object] = []

    @fourlane.task(service="sums", tier="P0", max_retries=0)
    def add(a: int, b: int = 0) -> None:
        ran.append(a + b)

    @dramatiq.actor
    def plain() -> None:
        ran.append("plain")

    assert dramatiq.get_broker() is stub
    assert add.queue_name == "local.jobs.high.sums"
    worker = dramatiq.Worker(stub, worker_timeout=20, worker_threads=1)
    worker.start()
    try:
        job = add.send(1, b=2)
        add.send_with_options(args=(4,), delay=1, tier="P3")
        add.send_many([(10,), {"a": 20}])
        plain.send()
        stub.enqueue(add.message(100))
        for queue in ("local.jobs.high.sums", "local.jobs.scheduled.sums", "default"):
            stub.join(queue, timeout=5_000)
        worker.join()
    finally:
        worker.stop()
    assert sorted(map(str, ran)) == ["10", "100", "20", "3", "4", "plain"]
    assert "local.jobs.high.sums" in repr(job)
    with pytest.raises(RuntimeError, match="StubBroker"):
        job.status()


def test_a_task_is_retried_on_a_stub_broker_after_its_backoff(stub: StubBroker) -> None:
    ran: list[str] = []
    soon = fourlane.Backoff(1, 2)

    @fourlane.task(max_retries=2, backoff=soon)
    def counted() -> None:
        ran.append("counted")
        raise ValueError

    @fourlane.task(retry_when=lambda retries, error: retries < 1, backoff=soon)
    def chosen() -> None:
        ran.append("chosen")
        raise ValueError

    @fourlane.task(backoff=soon)
    def snoozed() -> None:
        ran.append("snoozed")
        if ran.count("snoozed") < 3:
            raise fourlane.Snooze(60)

    @fourlane.task(backoff=soon, throws=KeyError)
    def refused(error: str) -> None:
        ran.append(error)
        raise fourlane.Reject("never") if error == "reject" else KeyError

    worker = dramatiq.Worker(stub, worker_timeout=20, worker_threads=1)
    worker.start()
    try:
        for send in (counted.send, chosen.send, snoozed.send):
            send()
        refused.send_many([["reject"], ["thrown"]])
        stub.join("local.jobs.normal.default", timeout=5_000, fail_fast=False)
        worker.join()
    finally:
        worker.stop()
    assert {name: ran.count(name) for name in ran} == {
        "counted": 3,
        "chosen": 2,
        "snoozed": 3,
        "reject": 1,
        "thrown": 1,
    }


def test_a_task_that_names_a_stub_broker(broker: RedisBroker) -> None:
    own = StubBroker()

    @fourlane.task(broker=own)
    def work() -> None: ...

    work.send()
    assert own.queues["local.jobs.normal.default"].qsize() == 1
    assert dramatiq.get_broker() is broker


def test_a_broker_of_dramatiqs_own_stays_the_programs(stub: StubBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks have theirs beside it."""
    stock = DramatiqsRedisBroker(url="redis://127.0.0.1:1/0")  # type: ignore[no-untyped-call]
    monkeypatch.setattr(dramatiq.broker, "global_broker", stock)

    @fourlane.task
    def one() -> None: ...

    @fourlane.task
    def two() -> None: ...

    assert dramatiq.get_broker() is stock
    assert isinstance(one.broker, RedisBroker)
    assert one.broker is two.broker
