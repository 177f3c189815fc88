"""Recorded steps on real workers: done once, whatever ends a run; gone with the job; bounded; fenced."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import dramatiq.errors
import msgspec
import pytest

import fourlane
from fourlane import Backoff, State, current_job, resume, step
from fourlane.errors import LeaseLost, Snooze
from fourlane.queues import dead_letters
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.steps import step_key
from tests.conftest import served_at
from tests.proxy import FaultyProxy
from tests.servers import eventually
from tests.worker.conftest import RunWorker

AT_ONCE = Backoff(1, 1)


def kept(broker: RedisBroker) -> list[bytes]:
    keys = broker.store.service("default")
    return list(broker.store.connector.command(keys.records, "HKEYS", keys.records))


def test_a_retry_gets_the_recorded_result_and_nothing_is_left(broker: RedisBroker, run_worker: RunWorker) -> None:
    calls: list[str] = []

    @fourlane.task(backoff=AT_ONCE, result_ttl_ms=10_000)
    def pay(amount: int) -> Any:
        receipt = step.call("charge", lambda: calls.append("charge") or {"paid": amount})
        with step("mail") as mail:
            if not mail.recorded:
                calls.append("mail")
                mail.result = "sent"
        if current_job().attempt < 3:  # type: ignore[union-attr]
            raise ValueError("after the payment")
        return [receipt, mail.result, mail.recorded]

    job = pay.send(5)
    run_worker(broker)
    assert job.result() == [{"paid": 5}, "sent", True]
    assert calls == ["charge", "mail"]
    eventually(lambda: not kept(broker))


def test_async_steps_and_steps_at_once(broker: RedisBroker, run_worker: RunWorker) -> None:
    calls: list[int] = []

    async def work(number: int) -> int:
        calls.append(number)
        await asyncio.sleep(0.001 * (20 - number))
        return number * 2

    @fourlane.task(backoff=AT_ONCE, result_ttl_ms=10_000)
    async def all_at_once() -> int:
        done = await asyncio.gather(*(step.run(f"part-{i}", work, i) for i in range(20)))
        if current_job().attempt == 1:  # type: ignore[union-attr]
            raise ValueError
        return sum(done)

    job = all_at_once.send()
    run_worker(broker)
    assert job.result() == 380
    assert sorted(calls) == list(range(20))


def test_a_snoozed_job_and_a_job_given_back_keep_their_steps(broker: RedisBroker, run_worker: RunWorker) -> None:
    calls: list[str] = []
    begun, told = threading.Event(), threading.Event()

    @fourlane.task(result_ttl_ms=10_000)
    def snoozes() -> str:
        step.call("once", lambda: calls.append("x"))
        if len(calls) == 1:
            calls.append("snoozed")
            raise Snooze(0.01)
        return "done"

    @fourlane.task(result_ttl_ms=10_000)
    def deployed() -> str:
        step.call("once", lambda: calls.append("y"))
        if not told.is_set():
            begun.set()
            told.set()
            current_job().cancel_token.wait(10)  # type: ignore[union-attr]
            current_job().cancel_token.raise_if_set()  # type: ignore[union-attr]
        return "done"

    first = run_worker(broker)
    assert snoozes.send().result() == "done"
    assert calls == ["x", "snoozed"]
    job = deployed.send()
    assert begun.wait(30)
    first.stop()
    run_worker(broker)
    assert job.result() == "done"
    assert calls.count("y") == 1
    eventually(lambda: not kept(broker))


def test_a_snoozed_job_that_then_takes_no_step_leaves_nothing(broker: RedisBroker, run_worker: RunWorker) -> None:
    runs: list[int] = []

    @fourlane.task(result_ttl_ms=10_000)
    def changes_its_mind() -> int:
        runs.append(1)
        if len(runs) == 1:
            step.call("only now", lambda: 1)
            raise Snooze(0.01)
        return len(runs)

    run_worker(broker)
    assert changes_its_mind.send().result() == 2
    eventually(lambda: not kept(broker))


def test_a_dead_letter_keeps_its_steps_for_a_replay_and_a_discard_drops_them(
    broker: RedisBroker, run_worker: RunWorker
) -> None:
    calls: list[str] = []
    repaired = threading.Event()

    @fourlane.task(max_retries=0)
    def pay() -> None:
        step.call("charge", lambda: calls.append("charge"))
        if not repaired.is_set():
            raise ValueError("broken")

    run_worker(broker)
    first, second = pay.send(), pay.send()
    for job in (first, second):
        eventually(lambda job=job: job.status() is State.DEAD)  # type: ignore[misc]
    assert len(calls) == 2
    repaired.set()
    letters = dead_letters.find(broker.store, dead_letters.Filter(), limit=10).letters
    assert {x.id for x in letters} == {first.id, second.id}
    assert dead_letters.replay(broker.store, [first.id]) == 1
    eventually(lambda: first.status() is State.UNKNOWN)
    assert len(calls) == 2
    assert sorted(kept(broker)) == sorted([second.id.encode(), f"{second.id}|s".encode()])
    assert dead_letters.discard(broker.store, [second.id]) == 1
    assert kept(broker) == []


def test_a_cancelled_job_drops_its_steps(broker: RedisBroker, run_worker: RunWorker) -> None:
    begun, go = threading.Event(), threading.Event()

    @fourlane.task
    def waits() -> None:
        step.call("first", lambda: 1)
        begun.set()
        go.wait(10)
        raise ValueError("it would be retried")

    job = waits.send()
    run_worker(broker)
    assert begun.wait(30)
    assert kept(broker) == [f"{job.id}|s".encode()]
    job.cancel()
    go.set()
    eventually(lambda: not kept(broker))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may interrupt a destructor
def test_only_the_lease_holder_records(broker: RedisBroker, run_worker: RunWorker) -> None:
    begun, go = threading.Event(), threading.Event()
    raised: list[BaseException] = []

    @fourlane.task
    def late() -> None:
        try:  # it may be told before it records
            begun.set()
            go.wait(10)
            step.call("charge", lambda: 1)
        except BaseException as error:
            raised.append(error)
            raise

    job = late.send()
    loop = run_worker(broker)
    assert begun.wait(30)
    key = broker.store.service("default").leased(loop.services[0].lease_name)
    broker.store.connector.command(key, "SREM", key, job.id)
    go.set()
    eventually(lambda: raised)
    assert isinstance(raised[0], LeaseLost)
    assert kept(broker) == []


def test_resume_goes_on_behind_the_last_finished_item(broker: RedisBroker, run_worker: RunWorker) -> None:
    seen: list[Any] = []

    @fourlane.task(backoff=AT_ONCE, result_ttl_ms=10_000)
    def plain() -> None:
        for item in resume("abcd", cursor="letters"):
            seen.append(item)
            if item == "c" and seen.count("c") == 1:
                raise ValueError

    @fourlane.task(backoff=AT_ONCE, result_ttl_ms=10_000)
    async def by_key() -> None:
        async for item in resume(lambda last: range((last or 0) + 1, 6), cursor="numbers", key=lambda n: n):
            seen.append(item)
            if item == 3 and seen.count(3) == 1:
                raise ValueError

    run_worker(broker)
    plain.send().result()
    assert seen == ["a", "b", "c", "c", "d"]
    seen.clear()
    by_key.send().result()
    assert seen == [1, 2, 3, 3, 4, 5]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (lambda: [step.call("a", lambda: 1), step.call("a", lambda: 2)], "two steps are named 'a'"),
        (lambda: step.call("", lambda: 1), "no step's name"),
        (lambda: step.call("big", lambda: "x" * 1_100_000), "may take 1,048,576 bytes"),
        (lambda: step.call("set", lambda: {1, 2}), "cannot be carried as JSON"),
    ],
)
def test_misuse_is_told(broker: RedisBroker, run_worker: RunWorker, run: Any, words: str) -> None:
    @fourlane.task(max_retries=0)
    def wrong() -> None:
        run()

    job = wrong.send()
    run_worker(broker)
    eventually(lambda: job.status() is State.DEAD)
    assert words in job.info().detail


def test_outside_a_worker_steps_just_run() -> None:
    assert step.call("a", lambda: 1) == 1
    assert list(resume([1, 2], cursor="c")) == [1, 2]
    assert step_key("charge") == "fourlane-none-charge"
    with pytest.raises(TypeError):
        resume(lambda last: [1], cursor="c")


def test_output_is_replayed_from_its_start_and_said_anew(broker: RedisBroker, run_worker: RunWorker) -> None:
    first, go = threading.Event(), threading.Event()

    @fourlane.task(backoff=AT_ONCE)
    def speaks() -> None:
        job = current_job()
        assert job is not None
        job.progress(0.5, "half")
        for number in range(250):
            job.log(f"line {number}")
        job.write("to")
        job.write("ken")
        if job.attempt == 1:
            first.wait(10)
            raise ValueError
        go.wait(10)
        job.write("s")

    job = speaks.send()
    pieces: list[Any] = []
    reader = threading.Thread(target=lambda: pieces.extend(job.stream(timeout=20)))
    reader.start()
    run_worker(broker)
    eventually(lambda: pieces)
    first.set()
    eventually(lambda: any(p.restart for p in pieces))
    go.set()
    reader.join(20)
    again = max(i for i, p in enumerate(pieces) if p.restart)
    assert "".join(p.text for p in pieces[again:]) == "tokens"
    assert "".join(p.text for p in job.stream(timeout=5)) == "tokens"  # a late reader
    told = job.progress()
    assert told is not None
    assert (told.done, told.text) == (0.5, "half")
    assert job.log_lines()[-1] == "line 249"
    assert len(job.log_lines()) == 200
    keys = broker.store.service("default")
    for key in (keys.output(job.id), keys.log(job.id), keys.progress(job.id)):
        assert broker.store.connector.command(key, "PTTL", key) > 0


def test_what_is_recorded_is_json(broker: RedisBroker, run_worker: RunWorker) -> None:
    begun = threading.Event()

    @fourlane.task
    def waits() -> None:
        step.call("first", lambda: {"a": [1]})
        begun.set()
        current_job().cancel_token.wait(10)  # type: ignore[union-attr]
        raise dramatiq.errors.Retry("again", delay=60_000)

    job = waits.send()
    run_worker(broker)
    assert begun.wait(30)
    keys = broker.store.service("default")
    data = broker.store.connector.command(keys.records, "HGET", keys.records, f"{job.id}|s")
    assert msgspec.json.decode(data) == {"first": {"a": [1]}}


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_work_that_is_done_is_recorded_once_redis_is_back(
    redis_url: str, namespace: str, proxy: FaultyProxy, run_worker: RunWorker, kind: str
) -> None:
    calls: list[str] = []
    away = threading.Event()

    def charge() -> str:
        calls.append("charge")
        proxy.refuse()
        proxy.cut()
        away.set()
        return "receipt"

    with served_at(proxy.url(redis_url), namespace=namespace) as broker:

        @fourlane.task(backoff=AT_ONCE, result_ttl_ms=10_000, broker=broker)
        def plain() -> Any:
            return step.call("charge", charge)

        @fourlane.task(name="async", backoff=AT_ONCE, result_ttl_ms=10_000, broker=broker)
        async def coroutine() -> Any:
            return await step.run("charge", charge)

        job: Any = broker.actors[kind].send()
        run_worker(broker)
        assert away.wait(10)
        time.sleep(1)  # it is tried meanwhile
        proxy.accept()
        assert job.result(30) == "receipt"
        assert calls == ["charge"]
