"""Every end is told: who waits, callbacks and middleware hear of each, whatever made it, at once."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import msgspec
import pytest
from dramatiq.middleware import Middleware

import fourlane
from fourlane import JobCancelled, JobFailed, State, codec, job
from fourlane.errors import Reject
from fourlane.queues import control
from fourlane.queues.broker import RedisBroker
from fourlane.queues.turn import Ask
from fourlane.tasks.task import EnqueuedJob, task
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.worker.ends import raises


def test_every_end_is_told(broker: RedisBroker, run_worker: RunWorker) -> None:
    heard: list[tuple[str, str]] = []

    @task
    def failed(message: dict[str, Any], error: dict[str, str]) -> None:
        heard.append((message["actor_name"], error["type"]))

    @task
    def exhausted(message: dict[str, Any], retries: dict[str, int]) -> None:
        heard.append((message["actor_name"], "exhausted"))

    told: dict[str, Any] = {
        "on_failure": "failed",
        "on_retry_exhausted": "exhausted",
        "result_ttl_ms": 60_000,
        "max_retries": 0,
    }
    begun = threading.Event()

    async def awaits() -> None:
        begun.set()
        await asyncio.sleep(30)

    tasks = {
        "error": task(name="error", **told)(raises(ValueError("x"))),
        "rejected": task(name="rejected", **told)(raises(Reject("x"))),
        "throws": task(name="throws", **told, throws=(ValueError,))(raises(ValueError("x"))),
        "expired": task(name="expired", **told)(lambda: None),
        "unknown": task(name="unknown", **told)(lambda: None),
        "cancelled": task(name="cancelled", **told)(awaits),
    }
    old = broker.store.clock.now_ms() - 60_000
    expired = EnqueuedJob[Any](broker, tasks["expired"].queue, job.new_id(1, old))
    options = {**told, "max_age": 1_000}
    broker.store.enqueue("default", 1, (expired.id, codec.encode("expired", options=options)))
    unknown = EnqueuedJob[Any](broker, tasks["unknown"].queue, job.new_id(1, old))
    del broker.actors["unknown"]
    record = job.Record(unknown_since_ms=1)
    entry = unknown.id + "|r"
    keys = broker.store.service("default")
    broker.client.hset(keys.records, unknown.id, msgspec.json.encode(record))
    broker.store.enqueue("default", 1, (entry, codec.encode("unknown", options=told)))
    worker = run_worker(broker)
    for sent in (expired, unknown, *(tasks[name].send() for name in ("error", "rejected", "throws"))):
        with pytest.raises(JobFailed):
            sent.result(5)
    running = tasks["cancelled"].send()
    assert begun.wait(30)
    running.cancel()
    worker.told_cancelled({running.id})  # in a process of its own, by its supervisor
    with pytest.raises(JobCancelled, match="while it ran"):
        running.result(5)
    eventually(lambda: len(heard) == 12)
    assert sorted(heard) == sorted(
        [(name, "exhausted") for name in tasks]
        + [("error", "ValueError"), ("rejected", "Reject"), ("throws", "ValueError"), ("expired", "Expired")]
        + [("unknown", "JobFailed"), ("cancelled", "JobCancelled")]
    )


def test_who_waits_hears_of_a_dead_letter_whatever_made_it(broker: RedisBroker) -> None:
    @task(result_ttl_ms=60_000)
    def plain() -> None: ...

    sent = plain.send()
    keys = broker.store.service("default")
    broker.client.hset(keys.reasons, sent.id, "poison\nworker w died")  # as reclaim.lua says
    with pytest.raises(JobFailed, match=r"^poison: worker w died$"):
        sent.result(5)
    sent = plain.send()
    sent.cancel()
    with pytest.raises(JobCancelled):
        sent.result(5)
    sent = plain.send_with_options(delay=60_000)
    sent.cancel()
    with pytest.raises(JobCancelled):
        sent.result(5)


@pytest.mark.parametrize("end", ["cancelled", "cancelled by the command line", "poison"])
@pytest.mark.parametrize("is_async", [False, True])
def test_ends_that_no_run_had_are_told(broker: RedisBroker, run_worker: RunWorker, end: str, is_async: bool) -> None:
    heard: list[Any] = []

    class Results(Middleware):
        def after_nack(self, broker: Any, message: Any) -> None:
            heard.append((message.actor_name, type(message._exception)))

    broker.add_middleware(Results())

    def failed(message: dict[str, Any], error: dict[str, str]) -> None:
        heard.append((message["args"], error.get("type", "exhausted")))

    async def failed_async(message: dict[str, Any], error: dict[str, str]) -> None:
        failed(message, error)

    task(name="failed")(failed_async if is_async else failed)

    @task(on_failure="failed", on_retry_exhausted="failed", result_ttl_ms=60_000)
    async def work(number: int) -> None: ...

    sent = work.send(1)
    store = broker.store
    waiting = threading.Thread(target=lambda: heard.append(type(told(sent))))
    waiting.start()
    if end == "poison":
        link = store.connector.open(store.service("default").jobs)
        turn = store.turn(link, "default", "w.0", Ask(1, "1", beat=True, silence_ms=60_000))
        store.crash_limit = 1
        back, poisoned = store.reclaim("default", "w.0", "worker w died", [turn.jobs[0].entry])
        assert (back, poisoned) == (0, [sent.id])
    elif end == "cancelled":
        sent.cancel()
    else:
        control.cancel(store, sent.id, has_callbacks=lambda name: True)
    waiting.join(5)
    kind = JobFailed if end == "poison" else JobCancelled
    assert heard == [kind]
    run_worker(broker)
    eventually(lambda: len(heard) == 4)
    assert ("work", kind) in heard
    assert ([1], kind.__name__) in heard
    assert sent.status() is (State.DEAD if end == "poison" else State.UNKNOWN)


@pytest.mark.parametrize("calls", [True, False])
@pytest.mark.parametrize("end", ["retried", "postponed", "given back", "left", "lost", "killed", "dead", "done"])
def test_the_end_of_a_job_that_was_cancelled_is_told_though_its_run_did_not_hear_of_it(
    broker: RedisBroker, run_worker: RunWorker, end: str, calls: bool
) -> None:
    """It ends of itself, or dies, before its worker is told, and does not come back."""
    begun, let = threading.Event(), threading.Event()
    heard: list[str] = []

    def hear(message: dict[str, Any], words: dict[str, Any]) -> None:
        assert message["args"] == ['\u00e4\n"/']
        heard.append(words.get("type", "exhausted"))

    task(name="hear")(hear)

    @task(result_ttl_ms=60_000, max_retries=0 if end == "dead" else 3)
    def runs(text: str) -> None:
        begun.set()
        assert let.wait(20)
        if end not in ("done", "given back"):
            raise fourlane.Snooze(60) if end == "postponed" else ValueError("again")

    callbacks = {"on_failure": "hear", "on_retry_exhausted": "hear"} if calls else {}
    sent = runs.send_with_options(args=['\u00e4\n"/'], **callbacks)
    store, keys = broker.store, broker.store.service("default")
    if end in ("left", "lost", "killed"):
        link = store.connector.open(store.keys.services)
        (leased,) = store.turn(link, "default", "w.0", Ask(1, "0123", beat=True, silence_ms=60_000)).jobs
        link.close()
        assert sent.cancel() is State.RUNNING
        if end == "left":
            store.leave("default", "w.0", "")
        elif end == "killed":
            assert store.reclaim("default", "w.0", "it was killed", [leased.entry]) == (0, [])
        else:
            broker.client.zadd(keys.workers, {"w.0": 1})
            store.reclaim("default", "w.0", "it fell silent")
    else:
        worker = run_worker(broker, grace_seconds=0.05 if end == "given back" else 2.0)
        assert begun.wait(20)
        assert sent.cancel() is State.RUNNING
        if end == "given back":
            worker.stop()
        else:
            let.set()
    if end == "done":
        assert sent.result(10) is None
    else:
        with pytest.raises(JobFailed if end == "dead" else JobCancelled, match=r"again|while it ran"):
            sent.result(10)
    let.set()
    run_worker(broker)
    own = [] if end not in ("dead", "retried") else ["ValueError"]  # its run's own end is told too
    told = [*own, "exhausted"] if end == "dead" else [] if end == "done" else [*own, "JobCancelled", "exhausted"]
    eventually(lambda: sorted(heard) == sorted(told if calls else []))
    left = [sent.id] if end == "dead" else []
    eventually(lambda: sorted(broker.client.hkeys(keys.jobs)) == [i.encode() for i in left])
    assert broker.client.hlen(keys.records) == len(left)
    assert broker.client.exists(keys.crashes, keys.reasons) == len(left)
    if end == "done":
        store.beat(store.connector.open(keys.jobs), "default", ["w.0"], 60_000)
    assert broker.client.exists(keys.cancels) == 0
    assert sorted(heard) == sorted(told if calls else [])


def told(sent: EnqueuedJob[Any]) -> BaseException | None:
    try:
        sent.result(5)
    except Exception as error:
        return error
    return None
