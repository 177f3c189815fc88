"""What functions may be tasks, what of them is awaited, and what a job's code does to the event loop of all."""

from __future__ import annotations

import asyncio
import functools
import itertools
import threading
from collections.abc import Callable
from typing import Any

import dramatiq
import pytest

import fourlane
from fourlane import JobFailed, ResultRefused, State
from fourlane.errors import InvalidTask
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import current_job, task
from fourlane.webhooks.handlers import on_webhook
from tests.servers import eventually
from tests.worker.conftest import RunWorker


async def real(word: str) -> list[Any]:
    before = current_job()
    await asyncio.sleep(0.01)
    now = current_job()
    assert before is now
    return [word, "" if now is None else now.task]


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def blocking(function: Callable[..., Any]) -> Callable[..., Any]:
    """As adapters do that make a plain function of an async one."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return call


class Callable_:
    async def __call__(self, word: str) -> list[Any]:
        return await real(word)


async def nested(word: str) -> Any:
    return real(word)  # no await: it returns the coroutine


KINDS: dict[str, Any] = {
    "plain async": real,
    "wrapped": traced(real),
    "wrapped without a trace": lambda word: real(word),
    "run to its end by its wrapper": blocking(real),
    "partial": functools.partial(real),
    "object": Callable_(),
    "nested": nested,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_to_be_awaited_is_awaited(broker: RedisBroker, run_worker: RunWorker, kind: str) -> None:
    made = task(name="it", result_ttl_ms=60_000)(KINDS[kind])
    worker = run_worker(broker, slots=1)
    sent = made.send_many([["a"]] * 20)
    assert [each.result(5) for each in sent] == [["a", "it"]] * 20
    assert made.send_with_options(args=["b"], tenant="t").result(5)[0] == "b"
    eventually(lambda: worker.executor.running() == [])
    assert worker.executor.healthy() == ""


@pytest.mark.parametrize("function", [real, traced(real)])
def test_dramatiq_actors_are_awaited_too(broker: RedisBroker, run_worker: RunWorker, function: Any) -> None:
    ran: list[str] = []

    async def note(word: str) -> None:
        await function(word)
        ran.append(word)

    from dramatiq.middleware.asyncio import AsyncIO

    broker.add_middleware(AsyncIO())
    made = dramatiq.actor(actor_name="it")(traced(note) if function is not real else note)
    made.send("a")
    run_worker(broker)
    eventually(lambda: ran == ["a"])


@pytest.mark.parametrize("made", [real, traced(real)])
@pytest.mark.parametrize("how", ["limit", "cancel", "lost"])
def test_what_is_awaited_keeps_its_limits(broker: RedisBroker, run_worker: RunWorker, made: Any, how: str) -> None:
    seen: list[BaseException] = []
    begun = threading.Event()

    async def sleeps() -> None:
        begun.set()
        try:
            await asyncio.sleep(30)
        except BaseException as error:
            seen.append(error)
            raise

    options: dict[str, Any] = {"timeout_ms": 100} if how == "limit" else {}
    slow = task(name="slow", max_retries=0, **options)(sleeps if made is real else traced(sleeps))
    worker = run_worker(broker, slots=1)
    sent = slow.send()
    assert begun.wait(30)
    if how == "limit":
        eventually(lambda: sent.status() is State.DEAD)
        assert "TimeLimitExceeded" in sent.info().detail
    elif how == "cancel":
        sent.cancel()
        worker.told_cancelled({sent.id})
        eventually(lambda: sent.status() is State.UNKNOWN)
    else:
        eventually(lambda: worker.executor.async_runs)
        begun.clear()
        worker.executor.lease_lost(worker.executor.running())
        assert begun.wait(30)  # it was given back, for nobody else had it
        sent.cancel()
        worker.told_cancelled({sent.id})
    eventually(lambda: seen and isinstance(seen[0], asyncio.CancelledError) and worker.executor.running() == [])


def numbers() -> Any:
    yield 1


async def later_numbers() -> Any:
    yield 1


@pytest.mark.parametrize("function", [numbers, later_numbers, functools.partial(numbers)])
def test_generators_are_refused_where_they_are_declared(broker: RedisBroker, function: Any) -> None:
    for declare in (
        task(name="numbers"),
        on_webhook("stripe", "*", name="numbers"),
        fourlane.on_event("platform.x-y", task_name="numbers"),
    ):
        with pytest.raises(InvalidTask, match="generator"):
            declare(function)  # type: ignore[operator]
    assert "numbers" not in broker.actors


@pytest.mark.parametrize("function", [traced(numbers), traced(later_numbers), lambda: numbers()])
def test_a_generator_that_comes_at_run_time_is_an_error(
    broker: RedisBroker, run_worker: RunWorker, function: Any
) -> None:
    made = task(name="numbers", result_ttl_ms=60_000)(function)
    run_worker(broker)
    with pytest.raises(JobFailed, match="generator, and nothing of it ran"):
        made.send().result(5)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("lazy", [map, filter, itertools.starmap])
def test_what_is_lazy_as_a_generator_is_an_error_too(
    broker: RedisBroker, run_worker: RunWorker, lazy: Any, is_async: bool
) -> None:
    ran: list[Any] = []

    def plain() -> Any:
        return lazy(ran.append, [(1,), (2,)])

    async def later() -> Any:
        return plain()

    made = task(name="made")(later if is_async else plain)
    run_worker(broker)
    sent = made.send()
    eventually(lambda: sent.status() is State.DEAD)
    info = sent.info()
    assert (info.reason, info.attempts, ran) == ("rejected", 1, [])
    assert f"returned a {lazy.__name__}, and nothing of it ran" in info.detail


def test_other_iterators_are_results_like_any(broker: RedisBroker, run_worker: RunWorker) -> None:
    made = task(name="made")(lambda: iter([1, 2]))
    run_worker(broker)
    sent, waited = made.send(), made.send_with_options(result_ttl_ms=60_000)
    with pytest.raises(ResultRefused, match="list_iterator"):
        waited.result(5)
    eventually(lambda: sent.status() is State.UNKNOWN)  # done


@pytest.mark.parametrize("function", [3, None, functools.partial(real)])
def test_what_is_no_function_or_has_no_name(broker: RedisBroker, function: Any) -> None:
    with pytest.raises(InvalidTask):
        task(service="default")(function)


# The event loop belongs to all --------------------------------------------------------------------------------------


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_task_factory_that_raises_harms_no_other(
    broker: RedisBroker, run_worker: RunWorker, loop_kind: str, handed_over: bool
) -> None:
    async def sets() -> None:
        asyncio.get_running_loop().set_task_factory(lambda *given, **more: 1 // 0)

    async def works() -> str:
        return "ran"

    setter = task(name="setter", result_ttl_ms=60_000)(sets)
    made = task(name="made", max_retries=0, result_ttl_ms=60_000, share=0.001)(traced(works) if handed_over else works)
    plain = task(name="plain", result_ttl_ms=60_000)(lambda: "ran")
    worker = run_worker(broker, slots=1)
    setter.send().result(5)
    sent = [made.send() for _ in range(3)]
    for each in sent:
        with pytest.raises(JobFailed, match="ZeroDivisionError"):
            each.result(5)
    eventually(lambda: worker.executor.running() == [] and worker.executor.free() == (1, worker.executor.concurrency))
    assert worker.executor.loop is not None
    worker.executor.loop.call_soon_threadsafe(worker.executor.loop.set_task_factory, None)
    assert (made.send().result(5), plain.send().result(5)) == ("ran", "ran")
    assert worker.executor.healthy() == ""


def test_what_keeps_jobs_from_running_is_told(
    broker: RedisBroker, run_worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()

    async def blocks() -> None:
        free.wait(10)

    blocked = task(name="blocked")(blocks)
    task(name="plain")(lambda: None)
    worker = run_worker(broker, slots=2)
    executor = worker.executor
    assert executor.healthy() == ""
    monkeypatch.setattr("fourlane.worker.run.eventloop._DEAF_SECONDS", 0.2)
    blocked.send()
    eventually(lambda: "the event loop has not answered for" in executor.healthy())
    free.set()
    eventually(lambda: executor.healthy() == "")
    executor.backlog.put(None)  # one thread ends
    eventually(lambda: executor.healthy().startswith("1 of 2 slots' threads have ended: fourlane-slot-"))
    ended = threading.Event()
    executor.end_process = ended.set
    assert executor.loop is not None
    executor._cannot_go_on("the event loop does not run any more")
    assert ended.is_set()
    assert executor.healthy() == "the event loop does not run any more"
