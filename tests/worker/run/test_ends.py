"""Whatever raises while a job begins, is judged or told: it ends, with the reason, and its place is free."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import dramatiq
import msgspec
import pytest
from dramatiq.middleware import Middleware, MiddlewareError, Shutdown, SkipMessage

import fourlane
from fourlane import JobCancelled, JobFailed, ResultNotKept, ResultRefused, ResultTimeout, State, codec, job
from fourlane.errors import InvalidOption, Reject
from fourlane.names import Queue, Tier
from fourlane.queues import control, dead_letters, words
from fourlane.queues.broker import Defaults, RedisBroker
from fourlane.queues.turn import Ask
from fourlane.tasks.task import Backoff, EnqueuedJob, task
from fourlane.telling import Ends, Observer
from fourlane.worker.loop import loop
from fourlane.worker.run import conclude, failed
from fourlane.worker.run.histories import Histories
from fourlane.worker.table import Table
from tests.conftest import Hear
from tests.servers import eventually
from tests.worker.conftest import RunWorker


def dead(sent: EnqueuedJob[Any]) -> job.JobInfo:
    eventually(lambda: sent.status() is State.DEAD)
    return sent.info()


def idle(worker: loop.Loop) -> bool:
    executor = worker.executor
    return executor.running() == [] and executor.free()[0] == executor.slots


def fails(*given: Any, **options: Any) -> Any:
    raise RuntimeError("the fault")


# Each part that takes part in the end of a run, and how it is made to raise.
PARTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "judge": lambda patch: patch.setattr(conclude, "judge", fails),
    "with_options": lambda patch: patch.setattr(fourlane.retry.Policy, "with_options", fails),
    "read_record": lambda patch: patch.setattr(failed, "read_record", fails),
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


def raises(error: BaseException) -> Callable[[], None]:
    def run() -> None:
        raise error

    return run


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


# Options ------------------------------------------------------------------------------------------------------------

WRONG: list[Any] = [
    ("max_retries", "3"),
    ("max_retries", 1.5),
    ("max_retries", True),
    ("max_retries", -1),
    ("time_limit", "60000"),
    ("time_limit", -1),
    ("time_limit", float("nan")),
    ("max_age", "x"),
    ("min_backoff", "x"),
    ("max_backoff", [1]),
    ("max_backoff", 10**20),
    ("result_ttl_ms", sys.maxsize),
    ("result_ttl_ms", 10**20),
    ("result_ttl_ms", -1),
    ("result_ttl_ms", 1.5),
    ("result_ttl_ms", True),
    ("result_ttl_ms", "x"),
    pytest.param("result_ttl_ms", 10**5000, id="digits"),
    ("on_bad_result", "retry"),
    ("on_retry_exhausted", 3),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_option_is_refused_where_it_is_given(broker: RedisBroker, name: str, value: Any) -> None:
    @task
    def plain() -> None: ...

    with pytest.raises(InvalidOption, match=f"^{name}=.*: it must be") as refused:
        plain.send_with_options(**{name: value})
    assert isinstance(refused.value, TypeError)
    assert isinstance(refused.value, ValueError)
    with pytest.raises(InvalidOption, match=f"^{name}="):
        plain.message_with_options(**{name: value})

    @dramatiq.actor
    def actor() -> None: ...

    with pytest.raises(InvalidOption, match=f"^{name}="):
        actor.send_with_options(**{name: value})
    declared = {"time_limit": "timeout_ms", "max_age": "max_age_ms"}.get(name, name)
    with pytest.raises(InvalidOption, match=f"^{name}="):
        task(name="other", **{declared: value})(lambda: None)
    assert "other" not in broker.actors


@pytest.mark.parametrize(
    "options", [{"backoff": 3}, {"throws": ["x"]}, {"throws": 3}, {"retry_when": 3}, {"hard_timeout_ms": "1"}]
)
def test_a_wrong_declaration_is_refused(broker: RedisBroker, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match="it must be"):
        task(name="wrong", **options)(lambda: None)
    with pytest.raises((TypeError, ValueError), match="backoff"):
        Backoff("1", 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ten years"):
        Backoff(1, 10**30)


@pytest.mark.parametrize("delay", [-1, 10**30, float("inf"), float("nan"), "5", timedelta(milliseconds=-1)])
def test_a_delay_that_cannot_be(broker: RedisBroker, delay: Any) -> None:
    @task
    def plain() -> None: ...

    with pytest.raises(InvalidOption, match="delay must be"):
        plain.send_with_options(delay=delay)


@pytest.mark.parametrize("seconds", [-1, 10**30, float("inf"), float("nan")])
def test_a_pause_that_cannot_be(seconds: float) -> None:
    with pytest.raises(ValueError, match="ten years"):
        fourlane.Snooze(seconds)


@pytest.mark.parametrize(("name", "value"), [w for w in WRONG if type(w) is tuple and w[1] == w[1]])
def test_what_a_stranger_wrote_is_rejected_and_harms_nobody(
    broker: RedisBroker, run_worker: RunWorker, name: str, value: Any
) -> None:
    @task(result_ttl_ms=60_000)
    def plain() -> str:
        return "ran"

    @task(result_ttl_ms=60_000)
    async def later() -> str:
        return "ran"

    worker = run_worker(broker, slots=1)
    sent = []
    for made in (plain, later):
        body = msgspec.json.encode([made.actor_name, [], {}, {name: value}])
        job_id = job.new_id(1, 1_700_000_000_000)
        broker.store.enqueue("default", 1, (job_id, body))
        sent.append(EnqueuedJob[Any](broker, made.queue, job_id))
    for each in sent:
        info = dead(each)
        assert info.reason == "rejected"
        assert f"the job's option {name}=" in info.detail
        with pytest.raises(JobFailed, match=name):
            each.result(5)
    assert (plain.send().result(5), later.send().result(5)) == ("ran", "ran")
    eventually(lambda: idle(worker))


def test_an_infinite_time_limit_is_none(broker: RedisBroker, run_worker: RunWorker) -> None:
    @task(timeout_ms=100, result_ttl_ms=60_000, max_retries=0)
    def long() -> str:
        for _ in range(30):
            threading.Event().wait(0.01)
        return "finished"

    run_worker(broker)
    assert long.send_with_options(time_limit=float("inf")).result(5) == "finished"


# Results ------------------------------------------------------------------------------------------------------------


def looped() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda: {1}, "result: builtins.set cannot be carried"),
        (lambda: "\ud800", "result"),
        (looped, "contains itself"),
        (lambda: "x" * 2_000, "2,012 bytes, the limit is 1,000"),
    ],
)
def test_a_result_that_cannot_be_kept_repeats_nothing(
    broker: RedisBroker,
    run_worker: RunWorker,
    caplog: pytest.LogCaptureFixture,
    result: Any,
    words: str,
    is_async: bool,
) -> None:
    broker.opened  # noqa: B018
    broker._opened = type(broker.opened)(broker.store, Defaults(max_result_bytes=1_000))
    ran: list[str] = []

    def plain() -> Any:
        ran.append("ran")
        return result()

    async def later() -> Any:
        return plain()

    function = later if is_async else plain
    kept = task(name="kept", result_ttl_ms=60_000)(function)
    letter = task(name="letter", result_ttl_ms=60_000, on_bad_result="dead")(function)
    run_worker(broker)
    sent = kept.send()
    with pytest.raises(ResultRefused) as refused:
        sent.result(5)
    assert words in str(refused.value)
    assert not isinstance(refused.value, JobFailed)
    assert sent.status() is State.DONE
    assert [r.levelname for r in caplog.records if "result-refused" in r.message] == ["ERROR"]
    sent = letter.send()
    with pytest.raises(JobFailed):
        sent.result(5)
    info = dead(sent)
    assert info.reason == "rejected"
    assert words in info.detail
    assert ran == ["ran", "ran"]


def test_a_task_that_keeps_no_result_says_so_at_once(broker: RedisBroker) -> None:
    @task
    def plain() -> None: ...

    for sent in (plain.send(), plain.send_many([[]])[0], plain.send_with_options(delay=1)):
        with pytest.raises(ResultNotKept, match="result_ttl_ms"):
            sent.result(None)
    with pytest.raises(ResultTimeout):
        plain.send_with_options(result_ttl_ms=1_000).result(0.3)


# Every end is told --------------------------------------------------------------------------------------------------


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
    assert begun.wait(5)
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


def told(sent: EnqueuedJob[Any]) -> BaseException | None:
    try:
        sent.result(5)
    except Exception as error:
        return error
    return None


def test_waiting_goes_by_a_clock_that_nobody_sets(broker: RedisBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    @task(result_ttl_ms=60_000)
    def never() -> None: ...

    sent = never.send()
    monkeypatch.setattr("time.time", lambda: 0.0)
    with pytest.raises(ResultTimeout):
        sent.result(0.3)


def test_the_shortest_wait_ends(broker: RedisBroker) -> None:
    @task(result_ttl_ms=60_000)
    def never() -> None: ...

    began = time.monotonic()
    with pytest.raises(ResultTimeout):
        never.send().result(0.0004)
    assert time.monotonic() - began < 2


# Age ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("kind", ["task", "actor"])
def test_age_is_by_redis_s_clock(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch, hours: int, kind: str
) -> None:
    from time import time

    ran: list[str] = []
    if kind == "task":
        code: Any = task(name="code", max_age_ms=1_500)(lambda: ran.append("ran"))
    else:
        code = dramatiq.actor(actor_name="code", max_age=1_500)(lambda: ran.append("ran"))
    monkeypatch.setattr("time.time", lambda: time() + 3_600 * hours)
    late = code.send().message_id
    threading.Event().wait(1.6)
    code.send()
    monkeypatch.undo()
    run_worker(broker)
    eventually(lambda: ran)
    expired = EnqueuedJob[Any](broker, broker.queue_of("local.jobs.normal.default"), late)
    assert dead(expired).reason == "expired"
    assert ran == ["ran"]


def test_an_expired_job_can_be_replayed_and_a_delay_is_no_age(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran: list[str] = []

    @task(max_age_ms=600, result_ttl_ms=60_000, backoff=Backoff(650, 650, jitter=False))
    def code(fails_first: bool = False) -> str:
        ran.append("ran")
        if fails_first and ran == ["ran"]:
            raise ValueError("again")
        return "ran"

    old = EnqueuedJob[Any](broker, code.queue, job.new_id(1, broker.store.clock.now_ms() - 1_000))
    broker.store.enqueue("default", 1, (old.id, codec.encode("code")))
    run_worker(broker)
    assert dead(old).reason == "expired"
    dead_letters.replay(broker.store, [old.id])
    assert old.result(5) == "ran"
    ran.clear()
    delayed, again = code.send_with_options(delay=650), code.send(True)
    assert (delayed.result(5), again.result(5)) == ("ran", "ran")
    assert len(ran) == 3


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


@pytest.mark.parametrize("kind", ["plain", "async", "told of the stop", "async, told of the stop"])
@pytest.mark.parametrize("first", ["cancel", "stop"])
def test_a_cancel_reaches_a_running_job_while_its_worker_stops(
    broker: RedisBroker, run_worker: RunWorker, kind: str, first: str
) -> None:
    """Those that are told of the stop, and go on, are interrupted once more."""
    heard: list[str] = []
    begun, went_on = threading.Event(), threading.Event()

    def hear(message: dict[str, Any], words: dict[str, Any]) -> None:
        heard.append(words.get("type", "exhausted"))

    def run() -> None:
        begun.set()
        while True:
            try:
                time.sleep(0.01)
            except Shutdown:
                went_on.set()

    async def run_async() -> None:
        begun.set()
        while True:
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                if went_on.is_set() or "told" not in kind:
                    raise
                went_on.set()

    task(name="hear")(hear)
    made: Any = task(name="runs", result_ttl_ms=60_000, on_failure="hear", on_retry_exhausted="hear")(
        run_async if "async" in kind else run
    )
    worker = run_worker(broker, grace_seconds=20.0)
    sent = made.send_with_options(**({"notify_shutdown": True} if "told" in kind else {}))
    assert begun.wait(5)
    sent.cancel()
    if first == "cancel":
        went_on.set()
        worker.told_cancelled({sent.id})
    worker.stop()
    if first == "stop":
        assert "told" not in kind or went_on.wait(5)
        eventually(lambda: all(run.context.cancel_token.reason == "shutdown" for run in worker.executor.running()))
        worker.told_cancelled({sent.id})
    with pytest.raises(JobCancelled, match=r"while it ran$"):
        sent.result(5)
    eventually(lambda: worker.executor.stopping, 2.0)
    run_worker(broker)
    eventually(lambda: sorted(heard) == ["JobCancelled", "exhausted"])


class Waits(Middleware):
    """Is told of jobs, and may keep something by the thread: that waits for a coroutine."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, str]] = []

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        self.heard.append((result, type(exception).__name__))


class Leaves(Waits):
    """Is told of jobs, and frees the thread while a coroutine is on the event loop."""

    keeps_thread = False


@pytest.mark.parametrize("told", [None, Waits, Leaves])
@pytest.mark.parametrize(
    "kind",
    [
        *("plain", "async", "handed over", "actor", "async actor", "expected", "retried", "called back"),
        *("sync timed out", "timed out", "cancelled", "stopped", "skipped"),
    ],
)
@pytest.mark.parametrize("observed", [False, True])
def test_a_failed_job_lets_go_of_all_that_it_had(
    broker: RedisBroker,
    kind: str,
    told: type[Waits] | None,
    observed: bool,
    hear: Hear,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At once, not when the garbage collector comes by: twenty megabytes in each of sixty jobs are a gigabyte."""
    caplog.set_level(logging.CRITICAL, logger="fourlane.worker")  # for caplog keeps the errors that it hears of
    had: list[weakref.ref[Any]] = []

    class Heavy: ...

    def fail() -> None:
        heavy = Heavy()
        had.append(weakref.ref(heavy))
        raise ValueError("its own")

    async def fail_later() -> None:
        fail()

    def hand_over() -> Any:
        return fail_later()

    async def linger() -> None:
        heavy = Heavy()
        had.append(weakref.ref(heavy))
        await asyncio.sleep(30)

    def linger_here() -> None:
        heavy = Heavy()
        had.append(weakref.ref(heavy))
        while True:
            time.sleep(0.01)

    class Closed(Middleware):
        def before_process_message(self, broker: Any, message: Any) -> None:
            try:
                fail()
            except ValueError as error:
                raise SkipMessage("closed") from error

    if told is not None:
        broker.add_middleware(told())
    if kind == "skipped":
        broker.add_middleware(Closed())
    dramatiq.actor(actor_name="hear")(lambda *said: None)
    sent: Any = {
        "plain": lambda: task(max_retries=0)(fail),
        "async": lambda: task(max_retries=0)(fail_later),
        "handed over": lambda: task(max_retries=0)(hand_over),
        "actor": lambda: dramatiq.actor(max_retries=0)(fail),
        "async actor": lambda: dramatiq.actor(max_retries=0)(fail_later),
        "expected": lambda: dramatiq.actor(throws=ValueError)(fail),
        "retried": lambda: dramatiq.actor(max_retries=2, min_backoff=1, max_backoff=1)(fail),
        "called back": lambda: dramatiq.actor(max_retries=0, on_failure="hear")(fail_later),
        "sync timed out": lambda: dramatiq.actor(max_retries=0, time_limit=20)(linger_here),
        "timed out": lambda: dramatiq.actor(max_retries=0, time_limit=20)(linger),
        "cancelled": lambda: task(linger),
        "stopped": lambda: dramatiq.actor(max_retries=0, notify_shutdown=True)(linger),
        "skipped": lambda: dramatiq.actor(fail),
    }[kind]()
    if observed:
        hear(Unmoved())
    queues = [Queue("default", tier) for tier in Tier]
    worker = loop.Loop(broker, queues, name="w", slots=2, grace_seconds=0.05)
    thread = threading.Thread(target=worker.run, daemon=True)
    gc.disable()
    try:
        sent.send()
        thread.start()
        eventually(lambda: len(had) == (3 if kind == "retried" else 1))
        if kind == "cancelled":
            worker.told_cancelled({job.id_of_entry(run.leased.entry) for run in worker.executor.running()})
        if kind == "stopped":
            worker.stop()
        else:
            broker.join("default", timeout=5_000)
        eventually(lambda: not any(ref() for ref in had), 2)
    finally:
        gc.enable()
        worker.stop()
        thread.join(5)


@pytest.mark.parametrize("told", [Waits, Leaves])
@pytest.mark.parametrize("kind", ["async", "returned", "timed out"])
def test_middleware_hears_of_no_result_of_a_failed_coroutine(
    broker: RedisBroker, run_worker: RunWorker, kind: str, told: type[Waits]
) -> None:
    async def fail(seconds: float = 0.0) -> None:
        await asyncio.sleep(seconds)
        raise ValueError("its own")

    hears = told()
    broker.add_middleware(hears)
    sent: Any = {
        "async": lambda: dramatiq.actor(max_retries=0)(fail),
        "returned": lambda: dramatiq.actor(max_retries=0)(lambda: fail()),
        "timed out": lambda: dramatiq.actor(max_retries=0, time_limit=20)(lambda: fail(30)),
    }[kind]()
    sent.send()
    run_worker(broker)
    eventually(lambda: hears.heard)
    assert hears.heard == [(None, "TimeLimitExceeded" if kind == "timed out" else "ValueError")]


class Unmoved(Observer):
    """Makes nothing of what it hears."""

    def turned(self, ends: Ends) -> None: ...
