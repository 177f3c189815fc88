"""What a worker does with a job, from being sent to its end."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dramatiq.middleware import TimeLimitExceeded

import fourlane
from fourlane import JobFailed, State, codec, job
from fourlane.errors import (
    InvalidArguments,
    JobTooLarge,
    RateLimited,
    Reject,
    Snooze,
)
from fourlane.names import Queue, Tier
from fourlane.queues import control
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import Backoff, EnqueuedJob, current_job, task
from fourlane.worker.run.run import Run
from fourlane.worker.run.slots import Slots
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.worker.ends import dead

SOON = Backoff(min_ms=5, max_ms=20, jitter=False)
NEVER = 30.0  # seconds that no test waits for


class Gate:
    """Holds jobs until it is opened; knows who came."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.opened = threading.Event()
        self.inside = self.most = self.came = 0

    def pass_through(self, seconds: float = NEVER) -> None:
        with self.lock:
            self.inside += 1
            self.came += 1
            self.most = max(self.most, self.inside)
        self.opened.wait(seconds)
        with self.lock:
            self.inside -= 1


@pytest.fixture
def gate() -> Any:
    held = Gate()
    yield held
    held.opened.set()


# Ends ---------------------------------------------------------------------------------------------------------------


def test_a_job_is_done_and_its_result_is_kept(broker: RedisBroker, run_worker: RunWorker) -> None:
    @task(result_ttl_ms=60_000)
    def add(a: int, b: int) -> int:
        return a + b

    sent = add.send(2, b=3)
    assert sent.status() is State.READY
    run_worker(broker)
    assert sent.result(5) == 5
    assert sent.status() is State.DONE


def test_a_job_without_a_result_leaves_nothing(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran = threading.Event()

    @task
    def note() -> None:
        ran.set()

    run_worker(broker)
    sent = note.send()
    assert ran.wait(30)
    eventually(lambda: sent.status() is State.UNKNOWN)


def test_async_jobs_run_together(broker: RedisBroker, run_worker: RunWorker) -> None:
    @task(result_ttl_ms=60_000)
    async def meet(number: int) -> list[Any]:
        here.append(number)
        while len(here) < 20:
            await asyncio.sleep(0.002)
        job = current_job()
        assert job is not None
        return [number, job.id]

    here: list[int] = []
    run_worker(broker, slots=1)
    sent = meet.send_many([[number] for number in range(20)])
    assert [s.result(5) for s in sent] == [[number, s.id] for number, s in enumerate(sent)]


def test_a_failing_job_is_retried_and_then_dead(broker: RedisBroker, run_worker: RunWorker) -> None:
    attempts: list[int] = []

    @task(max_retries=2, backoff=SOON, result_ttl_ms=60_000)
    def fail() -> None:
        now = current_job()
        assert now is not None
        attempts.append(now.attempt)
        raise ValueError(f"attempt {now.attempt}")

    run_worker(broker)
    sent = fail.send()
    info = dead(sent)
    assert attempts == [1, 2, 3]
    assert (info.reason, info.attempts) == ("error", 3)
    assert [e.error for e in info.errors] == [f"ValueError: attempt {n}" for n in (1, 2, 3)]
    assert "raise ValueError" in info.errors[0].traceback
    with pytest.raises(JobFailed, match="attempt 3"):
        sent.result(5)


def test_a_retry_waits_its_backoff(broker: RedisBroker, run_worker: RunWorker) -> None:
    times: list[float] = []

    @task(max_retries=2, backoff=Backoff(min_ms=100, max_ms=1000, jitter=False))
    def fail() -> None:
        times.append(time.monotonic())
        raise ValueError

    run_worker(broker)
    dead(fail.send())
    first, second = times[1] - times[0], times[2] - times[1]
    assert 0.095 <= first < 0.6
    assert 0.195 <= second < 0.7


def test_expected_errors_and_retry_when(broker: RedisBroker, run_worker: RunWorker) -> None:
    runs: dict[str, int] = {"throws": 0, "when": 0}

    @task(throws=KeyError, backoff=SOON)
    def throws() -> None:
        runs["throws"] += 1
        raise KeyError("x")

    @task(retry_when=lambda retries, error: retries < 1 and isinstance(error, OSError), backoff=SOON)
    def when() -> None:
        runs["when"] += 1
        raise OSError("y")

    run_worker(broker)
    for sent in (throws.send(), when.send()):
        assert dead(sent).reason == "error"
    assert runs == {"throws": 1, "when": 2}


@pytest.mark.parametrize("steer", [Snooze(0.01), RateLimited(timedelta(milliseconds=10))])
def test_postponing_spends_no_attempt(broker: RedisBroker, run_worker: RunWorker, steer: Exception) -> None:
    attempts: list[int] = []

    @task(max_retries=0, result_ttl_ms=60_000)
    def later() -> str:
        now = current_job()
        assert now is not None
        attempts.append(now.attempt)
        if len(attempts) < 4:
            raise steer
        return "done"

    run_worker(broker)
    assert later.send().result(5) == "done"
    assert attempts == [1, 1, 1, 1]


def test_reject_is_dead_at_once(broker: RedisBroker, run_worker: RunWorker) -> None:
    @task
    def refuse() -> None:
        raise Reject("no such customer")

    run_worker(broker)
    info = dead(refuse.send())
    assert (info.reason, info.attempts) == ("rejected", 1)
    assert "no such customer" in info.detail


def test_a_result_that_json_cannot_carry(broker: RedisBroker, run_worker: RunWorker) -> None:
    @task(result_ttl_ms=60_000, on_bad_result="dead")
    def bad() -> object:
        return {"when": datetime.now(UTC)}

    run_worker(broker)
    info = dead(bad.send())
    assert "result.when" in info.detail


# Time limits and cancelling -----------------------------------------------------------------------------------------


def test_timeouts_interrupt_threads_and_coroutines(broker: RedisBroker, run_worker: RunWorker) -> None:
    @task(timeout_ms=50, max_retries=0)
    def spin() -> None:
        end = time.monotonic() + NEVER
        while time.monotonic() < end:
            pass

    @task(timeout_ms=50, max_retries=0)
    async def wait() -> None:
        await asyncio.sleep(NEVER)

    @task(result_ttl_ms=60_000)
    def after() -> str:
        return "well"

    run_worker(broker, slots=1)
    for sent in (spin.send(), wait.send()):
        info = dead(sent)
        assert info.reason == "error"
        assert "TimeLimitExceeded" in info.detail
    assert after.send().result(5) == "well"


def test_cancel_ready_and_delayed(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[str] = []

    @task(result_ttl_ms=60_000)
    def note(name: str) -> None:
        ran.append(name)

    ready, delayed, last = note.send("ready"), note.send_with_options(args=["delayed"], delay=50), note.send("last")
    assert ready.cancel() is State.READY
    assert delayed.cancel() is State.DELAYED
    run_worker(broker)
    last.result(5)
    after = note.send_with_options(args=["after"], delay=100)
    after.result(5)
    assert ran == ["last", "after"]
    assert ready.cancel().value != "ready"


@pytest.mark.parametrize("kind", ["thread", "heeds", "async"])
def test_cancel_running(broker: RedisBroker, run_worker: RunWorker, kind: str) -> None:
    begun, ended = threading.Event(), threading.Event()

    @task
    def thread() -> None:
        begun.set()
        try:
            end = time.monotonic() + NEVER
            while time.monotonic() < end:
                pass
        finally:
            ended.set()

    @task
    def heeds() -> None:
        now = current_job()
        assert now is not None
        begun.set()
        try:
            now.cancel_token.wait(NEVER)  # told by the token, and Cancelled comes too
            now.cancel_token.raise_if_set()
        finally:
            if now.cancel_token.reason == "cancelled":
                ended.set()

    @task(name="async")
    async def coroutine() -> None:
        begun.set()
        try:
            await asyncio.sleep(NEVER)
        finally:
            ended.set()

    loop = run_worker(broker, slots=1)
    sent: EnqueuedJob[Any] = broker.actors[kind].send()  # type: ignore[assignment]
    assert begun.wait(30)
    assert sent.cancel() is State.RUNNING
    loop.told_cancelled({sent.id})
    assert ended.wait(30)
    eventually(lambda: sent.status() not in (State.RUNNING, State.READY, State.DELAYED))
    assert sent.status() in (State.UNKNOWN, State.CANCELLED)


# Bad jobs harm nobody else ------------------------------------------------------------------------------------------


def test_an_old_job_expires(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[int] = []

    @task(max_age_ms=20)
    def fresh() -> None:
        ran.append(1)

    sent = fresh.send()
    eventually(lambda: time.time() * 1000 - (job.enqueued_at_ms(sent.id) or 0) > 30)
    run_worker(broker)
    assert dead(sent).reason == "expired"
    assert ran == []


# Enqueue ------------------------------------------------------------------------------------------------------------


def test_delay_and_eta(broker: RedisBroker, run_worker: RunWorker) -> None:
    @task(result_ttl_ms=60_000)
    def clock() -> float:
        return time.time()

    run_worker(broker)
    asked = time.time()
    eta = datetime.now(UTC) + timedelta(milliseconds=250)
    late = clock.send_with_options(delay=timedelta(milliseconds=150))
    latest = clock.send_with_options(eta=eta)
    assert late.status() is State.DELAYED
    assert 0.14 <= late.result(5) - asked < 0.6
    assert 0.24 <= latest.result(5) - asked < 0.8


def test_send_many(broker: RedisBroker, run_worker: RunWorker) -> None:
    seen: set[int] = set()

    @task
    def note(number: int) -> None:
        seen.add(number)

    run_worker(broker)
    sent = note.send_many([[n] if n % 2 else {"number": n} for n in range(2500)])
    assert len({s.id for s in sent}) == 2500
    eventually(lambda: len(seen) == 2500)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": [1, datetime.now(UTC)]}, r"args\[0\].a\[1\]: datetime.datetime"),
        ({1: 2}, r"args\[0\]: the key 1"),
        ([float("nan")], r"args\[0\]\[0\]: nan"),
        ({1, 2}, r"args\[0\]: builtins.set"),
    ],
)
def test_arguments_that_json_cannot_carry(broker: RedisBroker, value: Any, path: str) -> None:
    @task
    def take(value: Any) -> None: ...

    with pytest.raises(InvalidArguments, match=path):
        take.send(value)
    with pytest.raises(InvalidArguments, match=path):
        take.send_many([[value]])
    with pytest.raises(InvalidArguments, match="kwargs"):
        take.send(value=value)


def test_a_body_that_is_too_large(broker: RedisBroker) -> None:
    @task
    def take(text: str) -> None: ...

    with pytest.raises(JobTooLarge, match="limit is 1,048,576"):
        take.send("x" * codec.MAX_BODY_BYTES)
    take.send("x" * (codec.MAX_BODY_BYTES - 100))


# Limits and order ---------------------------------------------------------------------------------------------------


def test_a_concurrency_limit_is_never_exceeded(broker: RedisBroker, run_worker: RunWorker, gate: Gate) -> None:
    @task
    def enter() -> None:
        gate.pass_through(0.005)

    control.set_limit(broker.store, Queue("default", Tier.P1), concurrency=2)
    enter.send_many([[]] * 60)
    run_worker(broker, slots=4)
    run_worker(broker, slots=4)
    eventually(lambda: gate.came == 60 and gate.inside == 0)
    assert gate.most == 2
    keys = broker.store.service("default")
    eventually(lambda: broker.client.zcard(keys.slots[1]) == 0 if broker.client.exists(keys.slots[1]) else True)


def test_a_concurrency_limit_set_while_jobs_run(broker: RedisBroker, run_worker: RunWorker, gate: Gate) -> None:
    @task
    def enter() -> None:
        gate.pass_through()

    run_worker(broker, slots=4)
    enter.send_many([[]] * 4)
    eventually(lambda: gate.inside == 4)
    control.set_limit(broker.store, Queue("default", Tier.P1), concurrency=4)
    enter.send_many([[]] * 8)
    second = run_worker(broker, slots=4)
    eventually(lambda: second.turned_at)
    gate.opened.wait(0.2)
    assert gate.inside == 4
    gate.opened.set()
    eventually(lambda: gate.came == 12)


def test_a_rate_limit(broker: RedisBroker, run_worker: RunWorker) -> None:
    times: list[float] = []

    @task
    def note() -> None:
        times.append(time.monotonic())

    control.set_limit(broker.store, Queue("default", Tier.P1), rate=10, per_ms=500, burst=2)
    note.send_many([[]] * 12)
    run_worker(broker)
    eventually(lambda: len(times) == 12)
    # Two at once, then one each 50 ms.
    assert 0.4 < max(times) - min(times) < 2.5


def test_pause_and_resume(broker: RedisBroker, run_worker: RunWorker) -> None:
    @task(result_ttl_ms=60_000)
    def paused() -> str:
        return "ran"

    @task(tier="P2", result_ttl_ms=60_000)
    def other() -> str:
        return "ran"

    run_worker(broker)
    control.pause(broker.store, Queue("default", Tier.P1))
    waits = paused.send()
    assert other.send().result(5) == "ran"
    assert waits.status() is State.READY
    control.resume(broker.store, Queue("default", Tier.P1))
    assert waits.result(5) == "ran"


def test_p0_runs_before_p2_that_waits(broker: RedisBroker, run_worker: RunWorker, gate: Gate) -> None:
    order: list[str] = []

    @task(tier="P2")
    def low() -> None:
        gate.pass_through()
        order.append("low")

    @task(tier="P0")
    def high() -> None:
        order.append("high")

    low.send_many([[]] * 5)
    run_worker(broker, slots=1)
    eventually(lambda: gate.inside == 1)
    high.send_many([[]] * 3)
    eventually(lambda: waiting_in_redis(broker)() == 7)
    gate.opened.set()
    eventually(lambda: len(order) == 8)
    assert order == ["low"] + ["high"] * 3 + ["low"] * 4


def waiting_in_redis(broker: RedisBroker) -> Callable[[], int]:
    keys = broker.store.service("default")
    return lambda: sum(broker.client.llen(key) for key in keys.ready)


def test_an_interrupt_after_the_function_s_end_still_settles_the_job(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can arrive between two instructions of the worker itself; the lease must not be held for ever."""
    end, arrived = Slots._end, []

    def end_late(slots: Slots, slot: int, run: Run) -> None:
        if not arrived:
            arrived.append(run.id)
            raise TimeLimitExceeded
        end(slots, slot, run)

    monkeypatch.setattr(Slots, "_end", end_late)

    @fourlane.task(max_retries=0)
    def quick() -> None: ...

    hit, other = quick.send(), quick.send()
    run_worker(broker, slots=1)
    broker.join("default", timeout=5_000)
    assert arrived == [hit.id]
    assert hit.status() is fourlane.State.DEAD
    assert other.status() is fourlane.State.UNKNOWN


def test_on_failure_hears_of_our_own_errors_and_of_the_end(broker: RedisBroker, run_worker: RunWorker) -> None:
    heard: list[str] = []

    @fourlane.task
    def failed(message: dict[str, object], error: dict[str, str]) -> None:
        heard.append(error["type"])

    @fourlane.task
    def exhausted(message: dict[str, object], retries: dict[str, int]) -> None:
        heard.append(f"exhausted after {retries['retries']}")

    @fourlane.task(max_retries=1, backoff=fourlane.Backoff(1, 1), on_failure="failed", on_retry_exhausted="exhausted")
    def lean() -> None:
        raise fourlane.JobFailed("another job's")

    lean.send()
    run_worker(broker)
    eventually(lambda: sorted(heard) == ["JobFailed", "JobFailed", "exhausted after 1"])


def test_dead_letters_over_their_number_are_dropped_counted_and_told(
    broker: RedisBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.store.dead_max = 3

    @task(max_retries=0)
    def fails() -> None:
        raise ValueError("no")

    sent = fails.send_many([[]] * 10)
    run_worker(broker)
    keys = broker.store.service("default")
    eventually(lambda: broker.client.zcard(keys.dead[1]) == 3 and broker.client.hlen(keys.jobs) == 3)
    assert broker.client.hget(keys.stats, "dropped:1") == b"7"
    eventually(lambda: sum(int(word) for word in re.findall(r"dropped (\d+) old dead letter", caplog.text)) == 7)
    assert sum(job.status() is State.DEAD for job in sent) == 3


def test_an_infinite_time_limit_is_none(broker: RedisBroker, run_worker: RunWorker) -> None:
    @task(timeout_ms=100, result_ttl_ms=60_000, max_retries=0)
    def long() -> str:
        for _ in range(30):
            threading.Event().wait(0.01)
        return "finished"

    run_worker(broker)
    assert long.send_with_options(time_limit=float("inf")).result(5) == "finished"
