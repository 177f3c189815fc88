"""dramatiq's own features on our broker, under our worker and under dramatiq's."""
# mypy: disable-error-code="no-untyped-call,call-arg"

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import Retry
from dramatiq.middleware import (
    AsyncIO,
    CurrentMessage,
    GroupCallbacks,
    Middleware,
    TimeLimitExceeded,
    default_middleware,
)
from dramatiq.rate_limits.backends import StubBackend
from dramatiq.results import ResultFailure, Results
from dramatiq.results.backends import RedisBackend

import fourlane
from fourlane.errors import InvalidArguments, InvalidName
from fourlane.queues import dead_letters
from fourlane.queues.broker import RedisBroker
from tests.servers import eventually
from tests.worker.conftest import RunWorker


@pytest.fixture
def results(broker: RedisBroker, redis_url: str, namespace: str) -> Iterator[RedisBackend]:
    backend = RedisBackend(url=redis_url, namespace=f"{namespace}-results")
    broker.add_middleware(Results(backend=backend))
    yield backend
    backend.client.close()


def test_groups_and_pipelines(broker: RedisBroker, run_worker: RunWorker, results: RedisBackend) -> None:
    @dramatiq.actor(store_results=True)
    def double(number: int) -> int:
        return 2 * number

    run_worker(broker)
    group = dramatiq.group(double.message(n) for n in range(20)).run()
    group.wait(timeout=5000)
    assert list(group.get_results()) == [2 * n for n in range(20)]
    pipe = (double.message(1) | double.message() | double.message()).run()
    assert pipe.get_result(block=True, timeout=5000) == 8


def test_a_member_that_ran_twice_counts_once_and_completes_its_group_again(broker: RedisBroker) -> None:
    """Its worker died before it was settled: after the others, before them, or with the callbacks still to send."""
    broker.add_middleware(GroupCallbacks(StubBackend()))

    @dramatiq.actor
    def member(number: int) -> None: ...

    @dramatiq.actor(queue_name="after")
    def complete() -> None: ...

    group = dramatiq.group(member.message(n) for n in range(3))
    group.add_completion_callback(complete.message())
    sent: list[dramatiq.Message[Any]] = []
    enqueue = broker.enqueue
    broker.enqueue = lambda message, **_: sent.append(message) or message  # type: ignore[method-assign, func-returns-value]
    group.run()
    broker.enqueue = enqueue  # type: ignore[method-assign]

    def ends(*numbers: int) -> int:
        """How many callbacks that makes."""
        before = waiting()
        for number in numbers:
            broker.emit_after("process_message", sent[number], result=None)
        return waiting() - before

    def waiting() -> int:
        keys = broker.store.service("after")
        return int(broker.store.connector.command(keys.jobs, "LLEN", keys.ready[1]))

    assert ends(0, 0, 0, 1, 0, 1) == 0
    assert ends(2) == 1
    assert ends(0, 1) == 0
    keys = broker.store.service("after")
    broker.store.connector.command(keys.jobs, "DEL", keys.jobs, keys.ready[1])  # as if they had not been sent
    assert ends(2) == 1


def test_callbacks(broker: RedisBroker, run_worker: RunWorker) -> None:
    heard: list[tuple[str, Any]] = []

    @dramatiq.actor
    def succeeded(message: dict[str, Any], result: Any) -> None:
        heard.append(("success", result))

    @dramatiq.actor
    def failed(message: dict[str, Any], error: dict[str, Any]) -> None:
        heard.append(("failure", error["type"]))

    @dramatiq.actor(max_retries=0)
    def work(well: bool) -> int:
        if not well:
            raise KeyError("x")
        return 7

    run_worker(broker)
    work.send_with_options(args=(True,), on_success=succeeded)
    eventually(lambda: ("success", 7) in heard)
    work.send_with_options(args=(False,), on_failure=failed)
    eventually(lambda: ("failure", "KeyError") in heard)
    assert len(heard) == 2


def test_retry_and_throws(broker: RedisBroker, run_worker: RunWorker) -> None:
    runs: list[str] = []

    @dramatiq.actor(max_retries=3)
    def later() -> None:
        runs.append("later")
        if runs.count("later") < 3:
            raise Retry("not yet", delay=10)

    @dramatiq.actor(throws=ValueError)
    def throws() -> None:
        runs.append("throws")
        raise ValueError

    @dramatiq.actor(max_retries=1, min_backoff=5, max_backoff=10)
    def fails() -> None:
        runs.append("fails")
        raise OSError

    run_worker(broker)
    later.send()
    throws.send()
    fails.send()
    eventually(lambda: dead_letters.count(broker.store) == 2)
    broker.join(later.queue_name, timeout=5000)
    assert sorted(runs) == ["fails"] * 2 + ["later"] * 3 + ["throws"]
    dead = {letter.task: letter.attempts for letter in dead_letters.find(broker.store).letters}
    assert dead == {"throws": 1, "fails": 2}


class Listens(Middleware):
    """Notes each signal and the message's actor."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def before_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
        self.heard.append("before_enqueue")

    def after_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
        self.heard.append("after_enqueue")

    def before_process_message(self, broker: Any, message: Any) -> None:
        self.heard.append("before_process")

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        self.heard.append(f"after_process {result} {type(exception).__name__}")

    def before_ack(self, broker: Any, message: Any) -> None:
        self.heard.append("before_ack")

    def after_ack(self, broker: Any, message: Any) -> None:
        self.heard.append("after_ack")

    def before_nack(self, broker: Any, message: Any) -> None:
        self.heard.append("before_nack")

    def after_nack(self, broker: Any, message: Any) -> None:
        self.heard.append("after_nack")


def test_middleware_hears_all_signals_in_order(broker: RedisBroker, run_worker: RunWorker) -> None:
    listens = Listens()
    broker.add_middleware(listens)

    @dramatiq.actor(max_retries=0)
    def work(well: bool) -> int:
        if not well:
            raise ValueError
        return 5

    sent = ["before_enqueue", "after_enqueue", "before_process"]
    work.send(True)
    run_worker(broker)
    eventually(lambda: "after_ack" in listens.heard)
    assert listens.heard == [*sent, "after_process 5 NoneType", "before_ack", "after_ack"]
    listens.heard.clear()
    work.send(False)
    eventually(lambda: "after_nack" in listens.heard)
    # The worker may be faster than the producer's after_enqueue: only the order on each side is certain.
    worked = [signal for signal in listens.heard if "enqueue" not in signal]
    assert worked == ["before_process", "after_process None ValueError", "before_nack", "after_nack"]
    assert [signal for signal in listens.heard if signal not in worked] == sent[:2]


def test_current_message(broker: RedisBroker, run_worker: RunWorker) -> None:
    broker.add_middleware(CurrentMessage())
    seen: list[tuple[str, Any]] = []

    @dramatiq.actor
    def work(number: int) -> None:
        message: Any = CurrentMessage.get_current_message()
        seen.append((message.message_id, message.args))

    run_worker(broker)
    sent = work.send(3)
    eventually(lambda: len(seen) == 1)
    assert seen == [(sent.message_id, (3,))]


def test_a_broker_that_names_no_server_reads_the_settings(
    redis_url: str, namespace: str, clean_env: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"REDIS_URL": redis_url, "FOURLANE_NAMESPACE": namespace, "FOURLANE_ENVIRONMENT": "staging"}
    for name, value in (settings | {"FOURLANE_MAX_RETRIES": "7"}).items():
        monkeypatch.setenv(name, value)
    broker, other = RedisBroker(middleware=[]), RedisBroker(namespace="other", dead_max=5)
    assert (broker.store.namespace, broker.store.environment) == (namespace, "staging")
    assert broker.opened.defaults.max_retries == 7
    assert broker.store.connector.command(b"key", "PING") == b"PONG"
    assert (other.store.namespace, other.store.environment, other.store.dead_max) == ("other", "staging", 5)
    assert RedisBroker(host="elsewhere").store.environment == "staging"  # what it does not say is the settings'
    broker.close()


def test_under_dramatiqs_own_worker(redis_url: str, namespace: str) -> None:
    middleware = [kind() for kind in default_middleware if kind.__name__ != "Prometheus"]
    broker = RedisBroker(url=redis_url, namespace=namespace, middleware=middleware)
    runs: list[str] = []
    done = threading.Event()

    @dramatiq.actor(broker=broker)
    def works() -> None:
        runs.append("works")

    @dramatiq.actor(broker=broker, min_backoff=5, max_backoff=10)
    def second_time() -> None:
        runs.append("second")
        if runs.count("second") < 2:
            raise ValueError
        done.set()

    @dramatiq.actor(broker=broker, max_retries=1, min_backoff=5, max_backoff=10)
    def never() -> None:
        runs.append("never")
        raise OSError

    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
    try:
        for actor in (works, second_time, never):
            actor.send()
        assert done.wait(30)
        eventually(lambda: dead_letters.count(broker.store) == 1)
        broker.join(works.queue_name, timeout=5000)
    finally:
        worker.stop()
    assert sorted(runs) == ["never"] * 2 + ["second"] * 2 + ["works"]
    letter = dead_letters.find(broker.store).letters[0]
    assert (letter.task, letter.reason, letter.attempts) == ("never", "error", 2)
    broker.close()


def test_tasks_alone_run_under_dramatiqs_own_worker(redis_url: str, namespace: str) -> None:
    """Their queues are named when settings are read; a worker that begins reads them. Later tasks run too."""
    broker = RedisBroker(url=redis_url, namespace=namespace, middleware=[])
    ran: list[str] = []
    fourlane.task(broker=broker, name="early", service="one", tier="P0")(lambda: ran.append("early"))
    early = broker.actors["early"]
    assert not broker.queues
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=1)
    worker.start()
    try:
        late = fourlane.task(broker=broker, name="late", service="two")(lambda: ran.append("late"))
        early.send()
        late.send()
        early.send_with_options(delay=100)
        late.send_with_options(delay=100)
        eventually(lambda: len(ran) == 4)
    finally:
        worker.stop()
        broker.close()
    assert sorted(ran) == ["early"] * 2 + ["late"] * 2


def test_queue_names_with_dots_as_dramatiq_programs_have_them(broker: RedisBroker, run_worker: RunWorker) -> None:
    ran = threading.Event()

    @dramatiq.actor(queue_name="emails.bulk")
    def send() -> None:
        ran.set()

    message = send.send()
    assert message.queue_name == "emails.bulk"
    assert broker.queue_of("emails.bulk").service == "emails-bulk"
    run_worker(broker, "emails-bulk")
    assert ran.wait(30)
    with pytest.raises(InvalidName):
        broker.queue_of("emails.unknown")


def test_results_of_tasks_under_dramatiqs_own_worker(redis_url: str, namespace: str) -> None:
    """A result is found under the name by which its message was sent."""
    backend = RedisBackend(url=redis_url, namespace=f"{namespace}:results")
    broker = RedisBroker(url=redis_url, namespace=namespace, middleware=[Results(backend=backend)])

    @fourlane.task(broker=broker, tier="P0", service="sums", store_results=True)
    def add(a: int, b: int) -> int:
        return a + b

    message = add.message(1, 2)
    broker.declare_queue(message.queue_name)
    worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=1)
    worker.start()
    try:
        broker.enqueue(message)
        assert message.get_result(backend=backend, block=True, timeout=5_000) == 3
    finally:
        worker.stop()
        broker.close()


@pytest.mark.parametrize("options", [{"max_backoff": 1}, {"max_backoff": 1, "min_backoff": 20_000}, {"min_backoff": 1}])
def test_the_longest_backoff_may_be_under_the_shortest(
    broker: RedisBroker, run_worker: RunWorker, options: dict[str, int]
) -> None:
    """As dramatiq has it: the longest counts."""
    runs: list[str] = []

    def fails() -> None:
        runs.append("x")
        raise OSError

    actor = dramatiq.actor(actor_name="actor", max_retries=1, **options)(fails)
    task = fourlane.task(name="task", max_retries=1, **options)(fails)  # type: ignore[arg-type]
    run_worker(broker)
    actor.send()
    task.send()
    eventually(lambda: dead_letters.count(broker.store) == 2)
    assert len(runs) == 4


def test_a_float_for_a_timestamp(broker: RedisBroker, run_worker: RunWorker) -> None:
    """Packages build messages themselves, with ``time.time() * 1000``."""
    ran = threading.Event()

    @dramatiq.actor
    def work() -> None:
        ran.set()

    run_worker(broker)
    broker.enqueue(work.message().copy(message_timestamp=time.time() * 1000))
    assert ran.wait(30)
    for wrong in (float("nan"), float("inf"), -1, "now"):
        with pytest.raises(InvalidArguments, match="message_timestamp"):
            broker.enqueue(work.message().copy(message_timestamp=wrong))


@pytest.mark.parametrize("limit", [float("inf"), None])
def test_a_message_may_have_no_time_limit(broker: RedisBroker, run_worker: RunWorker, limit: float | None) -> None:
    ended: list[str] = []

    @dramatiq.actor(time_limit=1, max_retries=0)
    def work() -> None:
        try:
            time.sleep(0.2)
            ended.append("done")
        except TimeLimitExceeded:
            ended.append("interrupted")

    run_worker(broker)
    work.send_with_options(time_limit=limit)
    eventually(lambda: ended)
    assert ended == (["interrupted"] if limit is None else ["done"])  # None: the actor's own


def test_decorators_of_async_actors_run(broker: RedisBroker, run_worker: RunWorker) -> None:
    """Only dramatiq's own layer around ``async def`` is taken off: sessions and locks are the program's."""
    heard: list[str] = []

    def session(function: Any) -> Any:
        @functools.wraps(function)
        async def call(*args: Any) -> Any:
            heard.append("opened")
            return await function(*args)

        return call

    def blocking(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            heard.append("blocking")
            return asyncio.run(function(*args))

        return call

    def watched(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            heard.append("watched")
            return function(*args)

        return call

    async def body() -> None:
        await asyncio.sleep(0)
        heard.append("body")

    inner = dramatiq.actor(actor_name="inner")(session(body))
    outer = dramatiq.actor(actor_name="outer")(blocking(body))
    patched = dramatiq.actor(actor_name="patched")(body)
    patched.fn = watched(patched.fn)  # around dramatiq's layer: then the program's AsyncIO runs it
    asyncio_ = AsyncIO()
    broker.add_middleware(asyncio_)
    asyncio_.before_worker_boot(broker, None)  # type: ignore[arg-type]
    try:
        run_worker(broker)
        for actor, expected in ((inner, "opened"), (outer, "blocking"), (patched, "watched")):
            heard.clear()
            actor.send()
            broker.join("default", timeout=5_000)
            assert heard == [expected, "body"]
    finally:
        asyncio_.after_worker_shutdown(broker, None)  # type: ignore[arg-type]


def test_join_waits_for_a_retry_that_is_pending(broker: RedisBroker, run_worker: RunWorker) -> None:
    """A job that moves from one state to the next is never overseen; dead letters are over."""
    runs: list[int] = []

    @dramatiq.actor(max_retries=8, min_backoff=1, max_backoff=1)
    def fails(number: int) -> None:
        runs.append(number)
        raise ValueError

    run_worker(broker)
    for number in range(10):
        fails.send(number)
        broker.join("default", interval=0, timeout=10_000)
        assert runs.count(number) == 9


@pytest.mark.parametrize("kind", ["actor", "task"])
def test_expected_errors_are_no_errors_of_the_log(
    broker: RedisBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    declare: Any = dramatiq.actor if kind == "actor" else fourlane.task

    def throws() -> None:
        raise KeyError("expected")

    def again() -> None:
        raise Retry("not yet", delay=1)

    def fails() -> None:
        raise OSError("unexpected")

    with caplog.at_level(logging.INFO, logger="fourlane.worker"):
        jobs = [declare(throws=KeyError)(throws), declare(max_retries=1)(again), declare(max_retries=0)(fails)]
        run_worker(broker)
        for made in jobs:
            made.send()
        eventually(lambda: dead_letters.count(broker.store) == 3)
    lines = [(r.getMessage(), r.levelname) for r in caplog.records if "task=" in r.getMessage()]
    told = [(line.split()[0], line.split("task=")[1].split()[0], level) for line, level in lines]
    assert sorted(told) == [
        ("dead", "again", "INFO"),
        ("dead", "fails", "ERROR"),
        ("dead", "throws", "INFO"),
        ("retry", "again", "INFO"),
    ]


def test_who_returns_what_nobody_keeps_is_told(
    broker: RedisBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    """As dramatiq has it. A task's results are a matter of its options."""

    @dramatiq.actor
    def returns(value: object, piped: object = None) -> object:
        return value

    @fourlane.task
    def task() -> int:
        return 1

    run_worker(broker)
    returns.send(None)
    returns.send_with_options(args=(2,), pipe_target=returns.message(None))
    task.send()
    broker.join("default", timeout=5_000)
    assert "discarded" not in caplog.text
    sent = [returns.send(3), returns.send_with_options(args=(4,), max_retries=1)]
    broker.join("default", timeout=5_000)
    told = [record.getMessage() for record in caplog.records if "Consider adding the Results" in record.getMessage()]
    assert sorted(line.split()[1] for line in told) == sorted(f"job={message.message_id}" for message in sent)


def test_middleware_hears_that_a_message_is_too_old_in_dramatiqs_words(
    broker: RedisBroker, run_worker: RunWorker, results: RedisBackend
) -> None:
    skipped: list[str] = []

    class Hears(Middleware):
        """Of what is skipped."""

        def after_skip_message(self, broker: Any, message: Any) -> None:
            skipped.append(message.actor_name)

    broker.add_middleware(Hears())

    @dramatiq.actor(store_results=True, max_age=1)
    def late() -> None: ...

    message = late.send()
    run_worker(broker)
    with pytest.raises(ResultFailure, match=r"^actor raised SkipMessage: Message age limit exceeded$"):
        message.get_result(block=True, timeout=5_000)
    assert skipped == ["late"]
    eventually(lambda: dead_letters.count(broker.store) == 1)
    assert dead_letters.find(broker.store).letters[0].reason == "expired"


def test_an_unexpected_error_is_logged_with_its_traceback_once_it_is_final(
    broker: RedisBroker, run_worker: RunWorker, caplog: pytest.LogCaptureFixture
) -> None:
    class Scoped(Middleware):
        """Ends a context manager with the error, as Sentry's does."""

        def after_process_message(
            self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
        ) -> None:
            scope = contextlib.contextmanager(lambda: (yield))()
            scope.__enter__()
            if exception is not None:
                scope.__exit__(type(exception), exception, None)

    broker.add_middleware(Scoped())

    def fails() -> None:
        raise OSError("unexpected")

    def throws() -> None:
        raise KeyError("expected")

    with caplog.at_level(logging.INFO, logger="fourlane.worker"):
        made = [dramatiq.actor(max_retries=1, max_backoff=1)(fails), dramatiq.actor(throws=KeyError)(throws)]
        run_worker(broker)
        for actor in made:
            actor.send()
        broker.join("default", timeout=5_000)
    with_traceback = [
        (r.getMessage().split()[0], r.exc_info[0], r.exc_info[2] is None) for r in caplog.records if r.exc_info
    ]
    assert with_traceback == [("dead", OSError, False)]
