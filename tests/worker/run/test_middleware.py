"""Programs with middleware of their own, and async actors: the same under dramatiq's worker and under ours."""
# mypy: disable-error-code="no-untyped-call,call-arg,untyped-decorator"

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import dramatiq.broker
import pytest
from dramatiq.asyncio import get_event_loop_thread, set_event_loop_thread
from dramatiq.brokers.redis import RedisBroker as StockBroker
from dramatiq.errors import Retry
from dramatiq.middleware import (
    AsyncIO,
    CurrentMessage,
    Interrupt,
    Middleware,
    SkipMessage,
    TimeLimit,
    TimeLimitExceeded,
    raise_thread_exception,
)
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend

from fourlane.queues.broker import RedisBroker
from tests.servers import eventually
from tests.worker.conftest import RunWorker


class Program:
    """A program of dramatiq's, and what starts its worker."""

    def __init__(self, broker: Any, start: Callable[[], Any]) -> None:
        self.broker = broker
        self._start = start

    def start(self) -> Any:
        self.broker.emit_after("process_boot")
        return self._start()


@pytest.fixture(params=["dramatiq", "fourlane"])
def program(request: pytest.FixtureRequest, redis_url: str, namespace: str, run_worker: RunWorker) -> Iterator[Program]:
    before = dramatiq.broker.global_broker
    broker: Any
    if request.param == "fourlane":
        broker = RedisBroker(url=redis_url, namespace=namespace)
    else:
        broker = StockBroker(url=redis_url, namespace=namespace)
    dramatiq.set_broker(broker)
    stock: list[dramatiq.Worker] = []

    def start() -> Any:
        if request.param == "fourlane":
            return run_worker(broker, boots=True)
        stock.append(dramatiq.Worker(broker, worker_timeout=50, worker_threads=4))
        stock[0].start()
        return stock[0]

    yield Program(broker, start)
    for worker in stock:
        worker.stop(timeout=5_000)
    broker.close()
    dramatiq.broker.global_broker = before
    set_event_loop_thread(None)


class Ends(Interrupt):
    """What somebody raises into a worker's thread."""


class Aborts(Middleware):
    """As dramatiq-abort: it knows the thread of each message."""

    def __init__(self) -> None:
        self.threads: dict[str, int] = {}

    def before_process_message(self, broker: Any, message: Any) -> None:
        self.threads[message.message_id] = threading.get_ident()

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        self.threads.pop(message.message_id, None)


def test_an_interrupt_into_a_thread_ends_its_coroutine(program: Program) -> None:
    aborts, said = Aborts(), list[str]()
    program.broker.add_middleware(AsyncIO())
    program.broker.add_middleware(aborts)

    @dramatiq.actor(throws=Ends)
    async def works() -> None:
        said.append("begun")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            said.append("cancelled")
            raise

    @dramatiq.actor
    async def other() -> None:
        said.append("other")

    program.start()
    sent = works.send()
    eventually(lambda: "begun" in said)
    raise_thread_exception(aborts.threads[sent.message_id], Ends)
    eventually(lambda: sent.message_id not in aborts.threads)
    assert said == ["begun", "cancelled"]
    other.send()
    eventually(lambda: "other" in said)


class OwnTimeLimit(TimeLimit):
    """A program's own."""


def test_a_time_limit_of_the_programs_own_limits_async_actors(program: Program) -> None:
    program.broker.add_middleware(AsyncIO())
    program.broker.add_middleware(OwnTimeLimit(time_limit=200, interval=20))
    ended: list[str] = []

    class Hears(Middleware):
        def after_process_message(
            self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
        ) -> None:
            ended.append(type(exception).__name__)

    program.broker.add_middleware(Hears())

    @dramatiq.actor(max_retries=0)
    async def works() -> None:
        await asyncio.sleep(30)

    program.start()
    works.send()
    eventually(lambda: ended == [TimeLimitExceeded.__name__])


_OF_A_MESSAGE = (
    "before_enqueue",
    "after_enqueue",
    "before_process_message",
    "after_process_message",
    "after_skip_message",
    "before_ack",
    "after_ack",
    "before_nack",
    "after_nack",
)


def _hearing(hear: Callable[[str, Any], None], *signals: str) -> Middleware:
    """A middleware that hears these signals."""

    def hook(signal: str) -> Any:
        return lambda self, broker, message, *args, **kwargs: hear(signal, message)

    made: Middleware = type("Hears", (Middleware,), {signal: hook(signal) for signal in signals})()
    return made


@pytest.mark.parametrize("keeps_thread", [True, False])
def test_hooks_run_in_threads_and_never_on_the_event_loop(program: Program, keeps_thread: bool) -> None:
    places: dict[str, set[str]] = {}

    def hear(signal: str, message: Any) -> None:
        time.sleep(0.01)
        try:
            asyncio.get_running_loop()
            place = "loop"
        except RuntimeError:
            place = "thread"
        places.setdefault(signal, set()).add(place)
        if signal == "before_process_message" and message.options.get("skip"):
            raise SkipMessage

    middleware: Any = _hearing(hear, *_OF_A_MESSAGE)
    middleware.keeps_thread = keeps_thread
    program.broker.add_middleware(AsyncIO())
    program.broker.add_middleware(middleware)

    @dramatiq.actor(max_retries=1, min_backoff=5, max_backoff=10)
    async def works(well: bool) -> None:
        if not well:
            raise ValueError

    program.start()
    works.send(True)
    works.send(False)
    works.send_with_options(args=(True,), skip=True)
    eventually(lambda: places.keys() == set(_OF_A_MESSAGE))
    assert places == {signal: {"thread"} for signal in _OF_A_MESSAGE}


_request: contextvars.ContextVar[int] = contextvars.ContextVar("_request")


class Scopes(Middleware):
    """As Flask's contexts and Sentry's scopes: what it sets before it takes back after, in the same context."""

    def __init__(self, keeps_thread: bool) -> None:
        self.keeps_thread = keeps_thread
        self.open: dict[str, contextvars.Token[int]] = {}
        self.faults: list[Exception] = []
        self.closed = 0

    def before_process_message(self, broker: Any, message: Any) -> None:
        self.open[message.message_id] = _request.set(message.args[0])

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        try:
            _request.reset(self.open.pop(message.message_id))
        except ValueError as error:
            self.faults.append(error)
        self.closed += 1


@pytest.mark.parametrize("keeps_thread", [True, False])
def test_hooks_and_coroutine_share_one_context(program: Program, keeps_thread: bool) -> None:
    scopes, seen = Scopes(keeps_thread), set[tuple[int, int]]()
    program.broker.add_middleware(AsyncIO())
    program.broker.add_middleware(scopes)

    @dramatiq.actor
    async def works(number: int) -> None:
        await asyncio.sleep(0.01)
        seen.add((number, _request.get()))

    program.start()
    for number in range(20):
        works.send(number)
    eventually(lambda: scopes.closed == 20)
    assert (seen, scopes.faults) == ({(n, n) for n in range(20)}, [])


def test_what_a_program_opened_at_boot_is_of_the_jobs_loop(program: Program) -> None:
    opened: dict[str, Any] = {}

    class Opens(Middleware):
        def after_worker_boot(self, broker: Any, worker: Any) -> None:
            async def open_pool() -> asyncio.AbstractEventLoop:
                return asyncio.get_running_loop()

            runner: Any = get_event_loop_thread()
            opened["pool"] = runner.run_coroutine(open_pool())

    program.broker.add_middleware(AsyncIO())
    program.broker.add_middleware(Opens())

    @dramatiq.actor
    async def works() -> None:
        opened["job"] = asyncio.get_running_loop()

    program.start()
    works.send()
    eventually(lambda: "job" in opened)
    assert opened["job"] is opened["pool"]


def test_many_coroutines_at_once_where_no_middleware_keeps_a_thread(broker: RedisBroker, run_worker: RunWorker) -> None:
    results = StubBackend()
    for middleware in (CurrentMessage(), Results(backend=results, store_results=True), Scopes(keeps_thread=False)):
        broker.add_middleware(middleware)
    together: set[int] = set()
    all_here = asyncio.Event()

    @dramatiq.actor
    async def works(number: int) -> Any:
        together.add(number)
        if len(together) == 30:
            all_here.set()
        await asyncio.wait_for(all_here.wait(), 5)
        message: Any = CurrentMessage.get_current_message()
        return message.args[0]

    run_worker(broker, slots=2)
    sent = [works.send(number) for number in range(30)]
    assert [m.get_result(backend=results, block=True, timeout=5_000) for m in sent] == list(range(30))


def test_middleware_hears_of_an_end_before_retries_judge_it(program: Program) -> None:
    """Who was added last hears first; callbacks hear last, and know how often it was tried."""
    heard: list[Any] = []

    class Hears(Middleware):
        def after_process_message(
            self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
        ) -> None:
            if message.actor_name == "works":
                heard.append((type(exception).__name__, message.options.get("retries"), message.failed))

        def after_enqueue(self, broker: Any, message: Any, delay: Any) -> None:
            if delay and message.options.get("retries"):
                heard.append(f"retry {message.options['retries']} enqueued")

    told: list[int] = []
    program.broker.add_middleware(Hears())

    @dramatiq.actor
    def failed(message: dict[str, Any], error: dict[str, Any]) -> None:
        told.append(message["options"]["retries"])

    @dramatiq.actor(max_retries=2, min_backoff=5, max_backoff=10)
    def works() -> None:
        raise ValueError

    program.start()
    works.send_with_options(on_failure=failed)
    eventually(lambda: len(told) == 3)
    assert sorted(told) == [1, 2, 3]
    first, *others = heard
    assert first == ("ValueError", None, False)
    assert others == [
        "retry 1 enqueued", ("ValueError", 1, False),
        "retry 2 enqueued", ("ValueError", 2, False),
    ]  # fmt: skip


def test_who_stands_before_retries_hears_of_their_judgement(program: Program) -> None:
    heard: list[Any] = []

    class First(Middleware):
        def after_process_message(
            self, broker: Any, message: Any, *, result: Any = None, exception: Any = None
        ) -> None:
            heard.append((message.options["retries"], message.failed))

    program.broker.add_middleware(First(), before=dramatiq.middleware.Retries)

    @dramatiq.actor(max_retries=1, min_backoff=5, max_backoff=10)
    def works() -> None:
        raise Retry("again", delay=5) if not heard else ValueError

    program.start()
    works.send()
    eventually(lambda: len(heard) == 2)
    assert heard == [(1, False), (2, True)]


def test_an_actor_class_has_its_own_way_to_be_called(program: Program) -> None:
    called: list[str] = []

    class Own(dramatiq.Actor[Any, Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            called.append(f"called {self.actor_name}")
            return super().__call__(*args, **kwargs)

    program.broker.add_middleware(AsyncIO())

    @dramatiq.actor(actor_class=Own)
    def plain() -> None:
        called.append("plain")

    @dramatiq.actor(actor_class=Own)
    async def later() -> None:
        await asyncio.sleep(0)
        called.append("later")

    program.start()
    plain.send()
    eventually(lambda: called == ["called plain", "plain"])
    later.send()
    eventually(lambda: called[2:] == ["called later", "later"])


def test_a_message_that_waited_too_long_is_skipped(program: Program) -> None:
    heard: list[Any] = []

    def hear(signal: str, message: Any) -> None:
        heard.append((signal, message.failed, f"{type(message._exception).__name__}: {message._exception}"))

    program.broker.add_middleware(_hearing(hear, "after_process_message", "after_skip_message", "after_nack"))

    @dramatiq.actor(max_age=50)
    def works() -> None:
        raise AssertionError

    works.send()
    time.sleep(0.06)
    program.start()
    eventually(lambda: len(heard) == 2)
    why = "SkipMessage: Message age limit exceeded"
    assert heard[1] == ("after_nack", True, why)
    assert heard[0][:2] == ("after_skip_message", True)


def test_no_end_of_retries_may_be_infinite(program: Program) -> None:
    runs: list[str] = []

    @dramatiq.actor(max_retries=float("inf"), min_backoff=1, max_backoff=float("inf"))
    def works(name: str) -> None:
        runs.append(name)
        if runs.count(name) < 3:
            raise Retry("again", delay=1)

    program.start()
    works.send("declared")
    works.send_with_options(args=("sent",), max_retries=float("inf"), max_backoff=float("inf"))
    eventually(lambda: sorted(runs) == ["declared"] * 3 + ["sent"] * 3)


def test_actors_may_be_declared_later(program: Program) -> None:
    ran: set[str] = set()

    def declare(name: str, **options: Any) -> None:
        async def later() -> None:
            ran.add(name)

        def plain() -> None:
            ran.add(name)

        function: Any = later if "async" in name else plain
        dramatiq.actor(actor_name=name, **options)(function).send()

    class Late(Middleware):
        def after_process_boot(self, broker: Any) -> None:
            declare("at process boot", queue_name="late1")

        def after_worker_boot(self, broker: Any, worker: Any) -> None:
            declare("at worker boot", queue_name="late2")
            declare("async at worker boot")

    program.broker.add_middleware(AsyncIO())
    program.broker.add_middleware(Late())

    @dramatiq.actor
    def declares() -> None:
        declare("by an actor", queue_name="late3")
        declare("async by an actor", queue_name="late3")

    program.start()
    declares.send()
    eventually(lambda: len(ran) == 5)


def test_who_hears_of_the_stop_can_still_tell_running_jobs(program: Program) -> None:
    stops, begun, heard = threading.Event(), threading.Event(), list[str]()

    class Tells(Middleware):
        def before_worker_shutdown(self, broker: Any, worker: Any) -> None:
            stops.set()

    program.broker.add_middleware(Tells())

    @dramatiq.actor
    def works() -> None:
        begun.set()
        heard.append("stop" if stops.wait(5) else "nothing")

    worker = program.start()
    works.send()
    assert begun.wait(30)
    worker.stop()
    eventually(lambda: heard == ["stop"])


def test_an_encoder_that_is_not_used_is_told_of_once(broker: RedisBroker, caplog: pytest.LogCaptureFixture) -> None:
    @dramatiq.actor
    def works() -> None: ...

    before = dramatiq.get_encoder()
    dramatiq.set_encoder(dramatiq.PickleEncoder())
    try:
        works.send()
        works.send()
    finally:
        dramatiq.set_encoder(before)
    works.send()
    assert [record.message for record in caplog.records if "PickleEncoder" in record.message] == [
        "PickleEncoder, which dramatiq.set_encoder() was given, is not used for jobs: their arguments are kept as "
        "JSON, and what JSON cannot carry is refused (docs/tasks.md)"
    ]
