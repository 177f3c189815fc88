"""A message that is enqueued again: each call is a job, whoever makes it, and while the first of them lives too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.middleware import AsyncIO, Middleware, Retries, SkipMessage

from fourlane.queues import dead_letters
from fourlane.queues.broker import RedisBroker
from tests.servers import eventually
from tests.worker.conftest import RunWorker

SECOND = {"second": True}


class Again(Middleware):
    """Enqueues each message once more, from the place in its life that it is made for."""

    def __init__(self, signal: str) -> None:
        self.signal = signal

    def _again(self, signal: str, broker: Any, message: Any) -> bool:
        if self.signal != signal or message.options.get("second"):
            return False
        broker.enqueue(message.copy(options=SECOND), delay=20)
        return True

    def before_process_message(self, broker: Any, message: Any) -> None:
        if self._again("before_process_message", broker, message):
            raise SkipMessage("closed just now")

    def before_ack(self, broker: Any, message: Any) -> None:
        self._again("before_ack", broker, message)

    def after_ack(self, broker: Any, message: Any) -> None:
        self._again("after_ack", broker, message)

    def after_nack(self, broker: Any, message: Any) -> None:
        self._again("after_nack", broker, message)

    def after_process_message(self, broker: Any, message: Any, *, result: Any = None, exception: Any = None) -> None:
        self._again("after_process_message", broker, message)

    def after_skip_message(self, broker: Any, message: Any) -> None:
        self._again("after_skip_message", broker, message)


Start = Callable[[RedisBroker], None]


@pytest.fixture(params=["fourlane", "dramatiq"])
def start(request: pytest.FixtureRequest, run_worker: RunWorker) -> Iterator[Start]:
    """Starts Fourlane's worker, or dramatiq's own."""
    with contextlib.ExitStack() as stack:

        def begin(broker: RedisBroker) -> None:
            if request.param == "fourlane":
                run_worker(broker, "default", "other")
            else:
                worker = dramatiq.Worker(broker, worker_timeout=50, worker_threads=2)
                worker.start()
                stack.callback(worker.stop)

        yield begin


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        ("before_process_message", ["second"]),
        ("before_ack", ["first", "second"]),
        ("after_ack", ["first", "second"]),
        ("after_process_message", ["first", "second"]),
        ("after_nack", ["first", "second"]),
    ],
)
def test_by_a_middleware(broker: RedisBroker, start: Start, signal: str, expected: list[str]) -> None:
    broker.add_middleware(Again(signal))
    runs: list[Any] = []

    @dramatiq.actor(max_retries=0)
    def work(number: int) -> None:
        runs.append(number)
        if signal == "after_nack":
            raise ValueError

    start(broker)
    sent = work.send(1)
    eventually(lambda: len(runs) == len(expected))
    broker.join("default", timeout=5_000)
    assert runs == [1] * len(expected)
    if signal == "after_nack":
        letters = dead_letters.find(broker.store).letters
        assert len(letters) == 2
        assert sent.message_id in {letter.id for letter in letters}


def test_by_the_actor_with_other_arguments(broker: RedisBroker, start: Start) -> None:
    """A cursor: each page enqueues the next one."""
    broker.add_middleware(Current())
    pages: list[tuple[int, str]] = []

    @dramatiq.actor
    def page(number: int) -> None:
        message: Any = Current.message
        pages.append((number, message.message_id))
        if number < 4:
            broker.enqueue(message.copy(args=(number + 1,)), delay=1)

    start(broker)
    sent = page.send(1)
    eventually(lambda: len(pages) == 4)
    broker.join("default", timeout=5_000)
    assert pages == [(number, sent.message_id) for number in range(1, 5)]


def test_by_the_actor_onto_another_queue(broker: RedisBroker, start: Start) -> None:
    broker.add_middleware(Current())
    queues: list[str] = []

    @dramatiq.actor
    def moves() -> None:
        message: Any = Current.message
        queues.append(message.queue_name)
        if message.queue_name == "default":
            broker.enqueue(message.copy(queue_name="other"))

    broker.declare_queue("other")
    start(broker)
    moves.send()
    eventually(lambda: len(queues) == 2)
    broker.join("default", timeout=5_000)
    broker.join("other", timeout=5_000)
    assert [broker.queue_of(name).service for name in queues] == ["default", "other"]


def test_by_an_async_actor(broker: RedisBroker, start: Start) -> None:
    broker.add_middleware(AsyncIO())
    sent: list[Any] = []
    runs: list[int] = []

    @dramatiq.actor
    async def work(number: int) -> None:
        runs.append(number)
        if number < 3:
            broker.enqueue(sent[0].copy(args=(number + 1,)))

    sent.append(work.message(1))
    start(broker)
    broker.enqueue(sent[0])
    eventually(lambda: len(runs) == 3)
    assert runs == [1, 2, 3]


def test_one_object_twice_and_in_a_group(broker: RedisBroker, start: Start) -> None:
    runs: list[str] = []

    @dramatiq.actor
    def work() -> None:
        runs.append("x")

    message = work.message()
    broker.enqueue(message)
    broker.enqueue(message)
    broker.enqueue(message, delay=1)
    dramatiq.group([message, message]).run()
    start(broker)
    broker.join("default", timeout=5_000)
    eventually(lambda: len(runs) == 5)


def test_a_retry_of_the_programs_own_is_a_retry(broker: RedisBroker, start: Start) -> None:
    """It keeps the job, with its history, as dramatiq's own does."""

    class Patient(Retries): ...

    broker.middleware = [m for m in broker.middleware if type(m) is not Retries]
    broker.add_middleware(Patient(min_backoff=1, max_backoff=1))
    runs: list[str] = []

    @dramatiq.actor(max_retries=2)
    def work() -> None:
        runs.append("x")
        raise ValueError

    start(broker)
    sent = work.send()
    eventually(lambda: dead_letters.count(broker.store) == 1)
    letter = dead_letters.find(broker.store).letters[0]
    assert (letter.id, letter.attempts, len(runs)) == (sent.message_id, 3, 3)


class Current(Middleware):
    """The message that runs, for actors of one thread."""

    message: Any = None

    def before_process_message(self, broker: Any, message: Any) -> None:
        Current.message = message
