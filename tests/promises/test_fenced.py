"""At least once, fenced: only who holds a job's lease now can end or extend it; who is late changes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
from sqlalchemy.orm import Session

import fourlane
from fourlane import State, outbox
from fourlane.errors import Cancelled, LeaseLost
from fourlane.events.aws import Aws
from fourlane.events.publisher import Publisher
from fourlane.queues import control, dead_letters, schedules
from fourlane.queues.broker import RedisBroker
from fourlane.scheduler import manage
from fourlane.tasks.task import current_job, task
from fourlane.webhooks.handlers import enqueue_once
from fourlane.worker.loop.loop import Loop
from tests.proxy import FaultyProxy
from tests.worker.conftest import RunWorker
from tests.workers import Workers, eventually


def test_a_worker_that_slept_finds_its_jobs_taken_and_goes_on(workers: Workers) -> None:
    sleeper = workers.start("--slots", "2")
    sent = [workers.send("hold", name) for name in "ab"]
    (pid,) = {eventually(lambda name=name: workers.said("begun", name))[0] for name in "ab"}  # type: ignore[misc]
    other = workers.start("--slots", "2")
    os.killpg(sleeper.pid, signal.SIGSTOP)
    eventually(lambda: all(len(workers.said("begun", name)) == 2 for name in "ab"))
    os.killpg(sleeper.pid, signal.SIGCONT)
    for name in "ab":
        workers.open_gate(name)
    eventually(lambda: all(workers.said("done", name) for name in "ab"))
    eventually(lambda: all(s.status() is State.UNKNOWN for s in sent))
    # What ran there was told that it lost its leases, or ended before; it does not count.
    eventually(lambda: "will not count" in workers.log(sleeper) or "stale" in workers.log(sleeper))
    other.terminate()
    assert other.wait(30) == 0
    workers.send("quick", "q")
    assert eventually(lambda: workers.said("done", "q")) == [pid]
    assert sleeper.poll() is None


def test_a_late_finish_is_refused_and_the_job_runs_again(
    own_broker: RedisBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    gates = [threading.Event(), threading.Event()]
    begun: list[str] = []

    @task(result_ttl_ms=60_000)
    def hold() -> str:
        turn = len(begun)
        begun.append(threading.current_thread().name)
        gates[turn].wait(20)
        return f"run {turn}"

    run_worker(own_broker, name="first", slots=2)
    sent = hold.send()
    eventually(lambda: len(begun) == 1)
    entry = next(iter(own_broker.store.held("default", "first.0")))
    back, poisoned = own_broker.store.reclaim("default", "first.0", "the test says it died", begun=[entry])
    assert (back, poisoned) == (1, [])
    eventually(lambda: len(begun) == 2)
    gates[0].set()
    eventually(lambda: f"stale job={sent.id}" in caplog.text)
    assert sent.status() is State.RUNNING
    gates[1].set()
    assert sent.result(5) == "run 1"
    assert len(begun) == 2


def test_a_job_whose_lease_was_lost_while_redis_was_away_is_told(
    broker: RedisBroker, behind: RedisBroker, proxy: FaultyProxy, run_worker: RunWorker
) -> None:
    told: list[BaseException] = []
    begun = threading.Event()

    @fourlane.task(broker=behind)
    def long() -> None:
        if not begun.is_set():
            begun.set()
            try:
                while True:
                    time.sleep(0.01)
            except BaseException as error:
                told.append(error)
                raise

    loop = run_worker(behind, slots=2)  # one is free, so that it asks for more
    sent = long.send()
    assert begun.wait(30)
    proxy.refuse()
    proxy.cut()
    eventually(lambda: loop.services[0].out_of_step)  # a turn failed
    assert broker.store.reclaim("default", "w0.0", "it was away", begun=[sent.id]) == (1, [])
    proxy.accept()
    eventually(lambda: told)
    assert type(told[0]) is LeaseLost
    behind.join("default", timeout=10_000)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_run_whose_lease_was_lost_is_told_and_its_late_effects_are_refused(
    broker: RedisBroker, run_worker: RunWorker, is_async: bool
) -> None:
    refused: dict[str, BaseException | None] = {}
    begun, over = threading.Event(), threading.Event()
    reasons: list[str] = []

    @task(name="other")
    def other() -> None: ...

    yearly = schedules.Schedule(name="s", task="other", service="default", cron="0 0 1 1 *")
    publisher = Publisher(Aws(endpoint="http://127.0.0.1:9", region="us-east-1"), environment="local", source="/tests")

    def late_effects() -> None:
        job = current_job()
        assert job is not None
        reasons.append(job.cancel_token.reason)

        def step() -> None:
            with fourlane.step("late"):
                pass

        effects: dict[str, Callable[[], Any]] = {
            "step": step,
            "progress": lambda: job.progress(0.5),
            "write": lambda: job.write("x"),
            "log": lambda: job.log("x"),
            "token": job.cancel_token.raise_if_set,
            "send": other.send,
            "send_many": lambda: other.send_many([[]]),
            "options": lambda: other.send_with_options(delay=1_000),
            "group": dramatiq.group([other.message()]).run,
            "pipeline": dramatiq.pipeline([other.message()]).run,
            "publish": lambda: publisher.publish("platform.late", {}),
            "publish_many": lambda: publisher.publish_many("platform.late", [{}]),
            "enqueue_once": lambda: enqueue_once(other, [], key="late"),
            "outbox": lambda: outbox.enqueue(Session(), other),
            "cancel": sent.cancel,
            "pause": lambda: control.pause(broker.store, "default"),
            "purge": lambda: control.purge(broker.store, "default"),
            "replay": lambda: dead_letters.replay(broker.store, dead_letters.Filter()),
            "discard": lambda: dead_letters.discard(broker.store, dead_letters.Filter()),
            "edit": lambda: dead_letters.edit(broker.store, sent.id, args=[]),
            "import": lambda: dead_letters.import_(broker.store, []),
            "schedule": lambda: manage.put(broker.store, yearly),
            "pause schedule": lambda: manage.pause(broker.store, "s", "default"),
            "fire": lambda: manage.fire(broker.store, "s", "default"),
        }
        for name, effect in effects.items():
            try:
                effect()
            except BaseException as error:
                refused[name] = error
            else:
                refused[name] = None

    def plain() -> None:
        if begun.is_set():
            return
        begun.set()
        try:
            while True:
                time.sleep(0.01)
        except Cancelled:
            late_effects()
            over.set()
            raise

    async def later() -> None:
        if begun.is_set():
            return
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            late_effects()
            over.set()
            raise

    made = task(name="made", max_retries=0, result_ttl_ms=60_000)(later if is_async else plain)
    worker: Loop = run_worker(broker, slots=1)
    sent = made.send()
    assert begun.wait(30)
    worker.executor.lease_lost(worker.executor.running())
    assert over.wait(30)
    assert reasons == ["lease_lost"]
    assert {name: type(error) for name, error in refused.items()} == dict.fromkeys(refused, LeaseLost)
    assert len(refused) == 24
    assert sent.result(5) is None  # given back, and run by whoever leases it next
    assert sent.status() is State.DONE
