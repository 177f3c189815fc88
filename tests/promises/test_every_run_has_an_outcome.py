"""Every run has an outcome, whatever raises while it begins, is judged or settled; and it blocks no other."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import pytest
from dramatiq.middleware import Middleware, MiddlewareError

import fourlane
from fourlane import JobFailed, State
from fourlane.errors import Reject
from fourlane.names import Queue, Tier
from fourlane.outcome import Result
from fourlane.queues import words
from fourlane.queues.broker import Defaults, RedisBroker
from fourlane.queues.turn import Ask
from fourlane.tasks.task import Backoff, EnqueuedJob, task
from fourlane.telling import Observer
from fourlane.worker.loop.loop import Loop
from fourlane.worker.run import conclude, failed
from fourlane.worker.run.histories import Histories
from fourlane.worker.table import Table
from tests.conftest import Hear, StartServer
from tests.servers import eventually
from tests.worker.conftest import RunWorker
from tests.worker.ends import dead, idle, raises


def fails(*given: Any, **options: Any) -> Any:
    raise RuntimeError("the fault")


# Each part that takes part in the end of a run, and how it is made to raise.
PARTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "judge": lambda patch: patch.setattr(conclude, "judge", fails),
    "with_options": lambda patch: patch.setattr(fourlane.retry.Policy, "with_options", fails),
    "failed_again": lambda patch: patch.setattr(failed, "failed_again", fails),
    "write_record": lambda patch: patch.setattr(failed, "write_record", fails),
    "traceback": lambda patch: patch.setattr(words.traceback, "format_exception", fails),
    "histories": lambda patch: patch.setattr(Histories, "tell", fails),
    "table.begin": lambda patch: patch.setattr(Table, "begin", fails),
    "table.end": lambda patch: patch.setattr(Table, "end", fails),
}


@pytest.mark.parametrize("part", PARTS)
def test_whatever_raises_the_job_ends(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, hear: Hear, part: str
) -> None:
    class Fails(Observer):
        began = failed = ended = turned = resting = counted = fails

    @task(max_retries=0)
    def plain() -> None:
        raise ValueError("its own")

    @task(max_retries=0)
    async def later() -> None:
        raise ValueError("its own")

    @task(result_ttl_ms=60_000)
    def good() -> str:
        return "ran"

    worker = run_worker(broker, slots=1, table=Table.create(1001))
    hear(Fails())
    PARTS[part](monkeypatch)
    options = {"schedule": "s", "scheduled_for": 1}  # as if a scheduler had made it
    messages = [broker.enqueue(made.message().copy(options=options)) for made in (plain, later)]
    sent = [EnqueuedJob(broker, Queue("default", Tier.P1), message.message_id) for message in messages]
    infos = [dead(each) for each in sent]
    monkeypatch.undo()
    if part not in ("table.begin", "traceback"):
        assert all("its own" in info.detail for info in infos)
    if part in ("judge", "with_options"):
        assert all("the fault" in info.detail for info in infos)
        assert [[e.error for e in info.errors] for info in infos] == [
            ["ValueError: its own", "RuntimeError: the fault"]
        ] * 2
        assert all("in fails" in info.errors[1].traceback for info in infos)
    assert good.send().result(5) == "ran"
    eventually(lambda: idle(worker))


SIGNALS = ("before_process_message", "after_process_message", "before_ack", "after_ack", "before_nack", "after_nack")


@pytest.mark.parametrize("kind", [MiddlewareError, ValueError, SystemExit])
@pytest.mark.parametrize("signal", SIGNALS)
def test_whatever_hook_raises_the_job_ends(
    broker: RedisBroker, run_worker: RunWorker, signal: str, kind: type[BaseException]
) -> None:
    def hook(self: Any, *args: Any, **options: Any) -> None:
        raise kind("the hook's")

    broker.add_middleware(type("Odd", (Middleware,), {signal: hook})())
    ran: list[str] = []

    @task(max_retries=0)
    def bad() -> None:
        raise ValueError("its own")

    @task(max_retries=0)
    async def good() -> None:
        ran.append("good")

    worker = run_worker(broker, slots=1)
    failed, fine = bad.send(), good.send()
    dead(failed)
    eventually(lambda: fine.status() in (State.UNKNOWN, State.DEAD) and idle(worker))
    stops = kind is not ValueError and signal.endswith("process_message")
    assert (fine.status() is State.DEAD) == stops
    assert ran == ([] if stops and signal.startswith("before") else ["good"])


def test_a_callback_that_cannot_be_sent_keeps_no_job_from_its_retry(broker: RedisBroker, run_worker: RunWorker) -> None:
    class Odd(Middleware):
        def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
            if message.actor_name == "hears" and not told:
                told.append("not yet")
                raise SystemExit(2)

    broker.add_middleware(Odd())
    told: list[str] = []
    task(name="hears")(lambda *words: told.append("told"))
    made = task(name="bad", max_retries=1, backoff=Backoff(0, 0), on_failure="hears")(raises(ValueError("its own")))
    run_worker(broker)
    assert dead(made.send()).attempts == 2
    eventually(lambda: told == ["not yet", "told"])


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_an_error_that_somebody_sends_to_an_idle_slot_loses_no_job(
    broker: RedisBroker, run_worker: RunWorker, share: float
) -> None:
    ran: list[int] = []
    made = task(name="note", share=share)(ran.append)
    worker = run_worker(broker, "default", "other", slots=2)
    eventually(lambda: worker.waits.armed())
    for thread in worker.executor.threads:
        assert thread.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
    made.send_many([[number] for number in range(6)])
    eventually(lambda: sorted(ran) == list(range(6)))
    eventually(lambda: broker.client.hlen(broker.store.service("default").jobs) == 0 and idle(worker))
    assert worker.executor.healthy() == ""


@pytest.mark.parametrize("kind", ["async", "handed over"])
def test_an_error_that_somebody_sends_to_the_idle_event_loop_loses_no_job(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("fourlane.worker.run.coroutines._BEGINS_WITHIN_SECONDS", 0.2)
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    made: Any = task(name="note", share=0.5)(note if kind == "async" else lambda number: note(number))
    worker = run_worker(broker, slots=2)
    if kind == "handed over":
        made.send(-1)
    eventually(lambda: worker.executor.loop is not None and worker.executor.running() == [] and worker.waits.armed())
    ran.clear()
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(worker.executor.loop_thread), ctypes.py_object(SystemExit)
    )
    made.send_many([[number] for number in range(6)])
    eventually(lambda: sorted(ran) == list(range(6)))
    eventually(lambda: broker.client.hlen(broker.store.service("default").jobs) == 0)
    eventually(lambda: worker.executor.async_runs == {})
    assert worker.executor.healthy() == ""


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")


def deep() -> None:
    deep()


@pytest.mark.parametrize(
    ("run", "options", "reason", "words"),
    [
        (raises(Odd()), {}, "error", "Odd: <its text cannot be had: RuntimeError>"),
        (raises(Exits()), {}, "error", "Exits: <its text cannot be had: SystemExit>"),
        (raises(ValueError("caf\udce9")), {}, "error", r"ValueError: caf\udce9"),
        (raises(Reject("caf\udce9")), {"max_retries": 3}, "rejected", r"Reject: caf\udce9"),
        (deep, {}, "error", "RecursionError"),
        (raises(SystemExit(2)), {}, "error", "SystemExit: 2"),
        (raises(KeyboardInterrupt()), {}, "error", "KeyboardInterrupt"),
        (raises(ValueError("x")), {"throws": [ValueError], "max_retries": 3}, "error", "ValueError: x"),
        (raises(ValueError("x")), {"retry_when": lambda n, e: e.status > 3}, "error", "ValueError: x; while its end"),
        (raises(ValueError("x")), {"on_retry_exhausted": "renamed"}, "error", "ValueError: x; while its end"),
        (raises(ValueError("x")), {"on_failure": "renamed"}, "error", "renamed"),
    ],
)
def test_ends_of_every_kind_of_error(
    broker: RedisBroker, run_worker: RunWorker, run: Any, options: dict[str, Any], reason: str, words: str
) -> None:
    made = task(**({"name": "odd", "max_retries": 0, "result_ttl_ms": 60_000} | options))(run)
    run_worker(broker)
    sent = made.send()
    info = dead(sent)
    assert (info.reason, info.attempts) == (reason, 1)
    assert words in info.detail
    with pytest.raises(JobFailed):
        sent.result(5)


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
