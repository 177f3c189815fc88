"""Jobs handed to the executor itself: what it tells of them when they are overtaken by a stop, an outage, a lack."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dramatiq
import pytest

import fourlane
from fourlane import codec, crypto, job
from fourlane.outcome import Back, Cancel, Dead, Done, Outcome, Postpone, Result, Retry
from fourlane.queues import browse
from fourlane.queues.broker import RedisBroker
from fourlane.queues.contact import Contact
from fourlane.queues.in_process import in_process
from fourlane.queues.turn import Leased
from fourlane.worker.loop.service import Service
from fourlane.worker.run.executor import Executor
from fourlane.worker.run.run import Run
from fourlane.worker.table import Table
from tests.proxy import FaultyProxy
from tests.servers import eventually

SERVICE = Service("default", 0, "0123", "w", Contact(0.0))


class Hands:
    """An executor, the jobs that it was given, and what it told of them."""

    def __init__(self, broker: RedisBroker, slots: int = 1, concurrency: int = 10) -> None:
        self.told: list[tuple[str, Outcome]] = []
        self.mislaid_times = 0
        self.table = Table.create(slots + concurrency)
        self.executor = Executor(
            broker, self, slots=slots, concurrency=concurrency, table=self.table, on_low=lambda: None
        )

    def finished(self, run: Run, outcome: Outcome) -> None:
        if run.gated:
            run.leave_gate()
        self.told.append((run.envelope.task, outcome))

    def mislaid(self) -> None:
        self.mislaid_times += 1

    def give(self, *tasks: Any, options: dict[str, Any] | None = None) -> None:
        leased = []
        for number, task in enumerate(tasks):
            job_id = job.new_id(1, int(time.time() * 1000))
            body = codec.encode(task.actor_name, (), {}, options or {}, enqueued_ms=1)
            leased.append(Leased(job.entry_of(job_id, number), body, b"", 0))
        self.executor.start(SERVICE, leased)

    def outcome(self, task: Any, timeout: float = 5.0) -> Outcome:
        name = task.actor_name
        eventually(lambda: name in dict(self.told), timeout)
        return dict(self.told)[name]

    def rows(self) -> int:
        return len(self.table.running())


@pytest.fixture
def hands(broker: RedisBroker) -> Iterator[Callable[..., Hands]]:
    made: list[Hands] = []

    def make(broker: RedisBroker = broker, **sizes: int) -> Hands:
        made.append(Hands(broker, **sizes))
        made[-1].executor.boot()
        return made[-1]

    yield make
    for each in made:
        each.executor.close()


def test_a_job_keeps_its_row_while_the_one_before_goes_on_on_the_loop(hands: Callable[..., Hands]) -> None:
    blocked, unblock, over = threading.Event(), threading.Event(), threading.Event()
    rows: list[int] = []

    @fourlane.task
    async def blocks() -> None:
        blocked.set()
        unblock.wait(5)  # the loop itself

    async def later() -> None:
        over.set()

    @fourlane.task
    def gives() -> Any:
        return later()

    @fourlane.task
    def longer() -> None:
        rows.append(hand.rows())
        unblock.set()
        assert over.wait(30)
        rows.append(hand.rows())

    hand = hands()
    hand.give(blocks)
    assert blocked.wait(30)
    hand.give(gives, longer)
    assert hand.outcome(longer) == Done()
    assert rows[0] == 3  # where the supervisor finds each, if this process dies now
    assert 1 <= rows[1] <= 2  # ``gives`` may not have left yet
    assert hand.outcome(gives) == Done()
    eventually(lambda: hand.rows() == 0)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("why", ["lost", "leaving"])
def test_what_had_not_begun_does_not_begin_when_it_is_lost_or_the_worker_leaves(
    hands: Callable[..., Hands], is_async: bool, why: str
) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def hold() -> None:
        begun.set()
        goes_on.wait(5)

    def work() -> None:
        ran.append("work")

    async def hold_loop() -> None:
        hold()

    async def work_on_loop() -> None:
        work()

    first: Any = fourlane.task(name="first")(hold_loop if is_async else hold)
    second: Any = fourlane.task(name="second")(work_on_loop if is_async else work)
    hand = hands()
    hand.give(first)
    assert begun.wait(30)
    hand.give(second)
    executor = hand.executor
    runs = [run for run in executor.running() if run.envelope.task == "second"] if is_async else executor.take_back()
    assert len(runs) == 1
    if not is_async:
        executor.backlog.put(runs[0])  # as if a thread had just got it
    if why == "lost":
        executor.lease_lost(runs)
    else:
        executor.tell_shutdown()
    goes_on.set()
    assert hand.outcome(second) == Back()
    assert hand.outcome(first) == Done()
    assert ran == []
    assert hand.mislaid_times == 0
    eventually(lambda: executor.running() == [] and hand.rows() == 0)


def test_a_thread_keeps_nothing_of_an_encrypted_job(hands: Callable[..., Hands]) -> None:
    kept: list[Any] = []

    @fourlane.task(encrypt=True, result_ttl_ms=0)
    def secret() -> None: ...

    @fourlane.task(result_ttl_ms=0)
    def look() -> None:
        kept.append(in_process.message)

    crypto.configure(crypto.Keyring([crypto.new_key()]))
    try:
        hand = hands()
        hand.give(secret)
        hand.outcome(secret)
        hand.give(look)
        hand.outcome(look)
    finally:
        crypto.configure(None)
    assert kept == [None]


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("declared", ["before", "since the start"])
def test_an_event_loop_that_cannot_be_made_is_made_later(hands: Callable[..., Hands], declared: str) -> None:
    async def real() -> None:
        await asyncio.sleep(0)

    @fourlane.task(max_retries=3)
    def plain() -> Any:
        return real()

    hand = hands()
    late: Any = plain if declared == "before" else fourlane.task(name="late")(real)
    with no_descriptor_left():
        hand.give(late)
        assert type(hand.outcome(late)) is (Retry if declared == "before" else Postpone)
    hand.told.clear()
    hand.give(late)
    assert hand.outcome(late) == Done()


@pytest.fixture
def behind(proxy: FaultyProxy, broker: RedisBroker, redis_url: str) -> Iterator[RedisBroker]:
    """A broker whose every connection goes through the proxy."""
    behind = RedisBroker(url=proxy.url(redis_url), namespace=broker.store.namespace)
    dramatiq.set_broker(behind)
    yield behind
    behind.close()


def away(proxy: FaultyProxy) -> None:
    proxy.refuse()
    proxy.cut()


@pytest.mark.parametrize("end", ["failed", "cancelled", "done"])
def test_an_end_on_the_loop_that_cannot_be_told_holds_up_no_other(
    hands: Callable[..., Hands], behind: RedisBroker, proxy: FaultyProxy, end: str
) -> None:
    begun = threading.Event()

    @fourlane.task
    def tell(*args: Any) -> None: ...

    @fourlane.task(max_retries=0, result_ttl_ms=60_000)
    async def ends() -> None:
        begun.set()
        if end == "cancelled":
            await asyncio.sleep(30)
        elif end == "failed":
            raise ValueError

    @fourlane.task
    async def other() -> None: ...

    hand = hands(behind)
    away(proxy)
    hand.give(ends, options={"failed": {"on_failure": "tell"}, "done": {"on_success": "tell"}}.get(end))
    assert begun.wait(30)
    if end == "cancelled":
        hand.executor.cancel({job.id_of_entry(run.leased.entry) for run in hand.executor.running()})
    hand.give(other)
    assert hand.outcome(other) == Done()
    assert [task for task, _ in hand.told] == ["other"]
    proxy.accept()
    assert type(hand.outcome(ends)) is {"failed": Dead, "cancelled": Cancel, "done": Result}[end]
    eventually(lambda: hand.executor.running() == [])


@pytest.mark.parametrize("option", ["on_success", "pipe_target"])
def test_work_that_is_done_stays_so_while_redis_is_away(
    hands: Callable[..., Hands], behind: RedisBroker, proxy: FaultyProxy, option: str
) -> None:
    @fourlane.task
    def tell(*args: Any) -> None: ...

    @fourlane.task(max_retries=0, result_ttl_ms=0)
    def work() -> None: ...

    target = "tell" if option == "on_success" else tell.message().asdict()
    hand = hands(behind)
    away(proxy)
    hand.give(work, options={option: target})
    time.sleep(1.0)  # an outage of longer than one call tries to reach it
    assert hand.told == []
    proxy.accept()
    assert hand.outcome(work) == Done()
    assert [queue.ready for queue in browse.queues(behind.store)] == [0, 1, 0, 0]
