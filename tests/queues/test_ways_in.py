"""Every way in refuses the same wrong things by the same error, at the call, and no job is accepted."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import dramatiq
import pytest
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits.backends import StubBackend

import fourlane
from fourlane import outbox
from fourlane.errors import InvalidArguments, InvalidName, InvalidOption, InvalidSchedule, JobTooLarge
from fourlane.queues.broker import RedisBroker
from fourlane.scheduler.declare import add
from fourlane.tasks.task import Task

AnyTask = Task[Any, Any]
CYCLE: list[Any] = []
CYCLE.append(CYCLE)
DEEP: Any = None
for _ in range(2_000):
    DEEP = [DEEP]


def positive(*args: Any) -> None:
    if args == (-1,):
        raise ArithmeticError("it must be positive")


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def two(broker: RedisBroker, request: pytest.FixtureRequest) -> AnyTask:
    @fourlane.task(encrypt=request.param, check=positive)
    def two(*args: Any, **kwargs: Any) -> None: ...

    return two


@pytest.fixture
def first(broker: RedisBroker) -> AnyTask:
    broker.add_middleware(GroupCallbacks(StubBackend()))

    @fourlane.task
    def first(*args: Any) -> None: ...

    return first


@pytest.fixture(autouse=True)
def nothing_accepted(broker: RedisBroker, rows: list[Any], two: AnyTask) -> Iterator[None]:
    yield
    known = broker.store.services()
    assert [key for name in known for key in _with_jobs(broker, name)] == []
    assert rows == []


def _with_jobs(broker: RedisBroker, service: str) -> list[str]:
    keys = broker.store.service(service)
    return [key for key in (keys.jobs, keys.schedules) if broker.client.exists(key)]


@pytest.fixture
def rows() -> list[Any]:
    """What was added to the outbox."""
    return []


class Session:
    def __init__(self, rows: list[Any]) -> None:
        self.add = rows.append


def _group(one: Any, back: Any = None, delay: Any = None) -> None:
    made = dramatiq.group([one])
    if back is not None:
        made.add_completion_callback(back)
    made.run(delay=delay)


def refuses(name: str, kind: type[Exception], words: str, way: Callable[[], Any]) -> None:
    print(name)  # shown with a failure
    with pytest.raises(kind, match=words):
        way()


WRONG: dict[str, tuple[list[Any], type[Exception], str]] = {
    "nan": ([math.nan], InvalidArguments, r"args\[0\]: nan cannot be carried"),
    "infinity": ([1, [math.inf]], InvalidArguments, r"args\[1\]\[0\]: inf cannot"),
    "bytes": ([b"x"], InvalidArguments, r"args\[0\]: builtins.bytes"),
    "set": ([{1}], InvalidArguments, r"args\[0\]: builtins.set"),
    "key": ([{1: 2}], InvalidArguments, r"args\[0\]: the key 1 is int"),
    "uuid": ([uuid4()], InvalidArguments, r"args\[0\]: uuid.UUID"),
    "moment": ([datetime(2020, 1, 1)], InvalidArguments, r"args\[0\]: datetime.datetime"),
    "decimal": ([Decimal(1)], InvalidArguments, r"args\[0\]: decimal.Decimal"),
    "object": ([object()], InvalidArguments, r"args\[0\]: builtins.object"),
    "cycle": ([CYCLE], InvalidArguments, "nested too deep, or contain themselves"),
    "deep": ([DEEP], InvalidArguments, "nested too deep, or contain themselves"),
    "surrogate": (["\ud800"], InvalidArguments, "surrogates not allowed"),
    "large": (["x" * 1_100_000], JobTooLarge, "the limit is 1,048,576"),
    "its own check": ([-1], ArithmeticError, "positive"),
}
WAYS: dict[str, Callable[[AnyTask, AnyTask, list[Any], list[Any]], Any]] = {
    "send": lambda first, two, args, rows: two.send(*args),
    "send_with_options": lambda first, two, args, rows: two.send_with_options(args=args),
    "delayed": lambda first, two, args, rows: two.send_with_options(args=args, delay=60_000),
    "send_many": lambda first, two, args, rows: two.send_many([[1], args]),
    "asend": lambda first, two, args, rows: asyncio.run(two.asend(*args)),
    "asend_many": lambda first, two, args, rows: asyncio.run(two.asend_many([[1], args])),
    "message": lambda first, two, args, rows: two.broker.enqueue(two.message(*args)),
    "pipeline, 1st": lambda first, two, args, rows: (two.message(*args) | first.message()).run(),
    "pipeline, 2nd": lambda first, two, args, rows: (first.message() | _alone(two, args)).run(),
    "pipeline, 3rd": lambda first, two, args, rows: (first.message() | first.message() | _alone(two, args)).run(),
    "group": lambda first, two, args, rows: _group(two.message(*args)),
    "group, back": lambda first, two, args, rows: _group(first.message(), two.message(*args)),
    "group, pipeline": lambda first, two, args, rows: _group(first.message() | first.message(), two.message(*args)),
    "outbox": lambda first, two, args, rows: outbox.enqueue(Session(rows), two, *args),
}


def _alone(two: AnyTask, args: Any) -> Any:
    """Without the result of the one before, so that all its arguments are known."""
    return two.message_with_options(args=tuple(args), pipe_ignore=True)


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case: str, first: AnyTask, two: AnyTask, rows: list[Any]) -> None:
    args, kind, words = WRONG[case]
    for name, way in WAYS.items():
        refuses(name, kind, words, partial(way, first, two, args, rows))


@pytest.mark.parametrize("case", [case for case in WRONG if case != "its own check"])
def test_wrong_arguments_of_a_schedule(case: str, two: AnyTask) -> None:
    args, _, words = WRONG[case]
    with pytest.raises(InvalidSchedule, match=words):
        add(two, "nightly", cron="@daily", args=args)


NEXT = {"queue_name": "default", "actor_name": "none", "args": [], "kwargs": {}, "options": {}}
OPTIONS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "tenant": ({"tenant": 5}, InvalidName, "5 is no tenant"),
    "control": ({"tenant": "a\nb"}, InvalidName, "is no tenant"),
    "retries": ({"max_retries": -1}, InvalidOption, "max_retries=-1: it must be"),
    "age": ({"max_age": "x"}, InvalidOption, "max_age='x': it must be"),
    "sealed": ({"sealed": 2}, InvalidOption, "sealed=2: Fourlane sets this option itself"),
    "sent as": ({"fourlane_message_id": "x"}, InvalidOption, "Fourlane sets this option itself"),
    "schedule": ({"schedule": "nightly"}, InvalidOption, "Fourlane sets this option itself"),
    "scheduled": ({"scheduled_for": 1}, InvalidOption, "Fourlane sets this option itself"),
    "unknown, no JSON": ({"colour": {1}}, InvalidArguments, r"options\.colour: builtins.set"),
    "unknown, nan": ({"colour": [math.nan]}, InvalidArguments, r"options\.colour\[0\]: nan"),
    "no message": ({"pipe_target": 5}, InvalidOption, r"options\.pipe_target must be a message"),
    "half": ({"pipe_target": {"args": []}}, InvalidOption, "must have the fields of a message, not args"),
    "more": ({"pipe_target": NEXT | {"x": 1}}, InvalidOption, "must have the fields of a message"),
    "queue": ({"pipe_target": NEXT | {"queue_name": 1}}, InvalidOption, "pipe_target.queue_name must be a text"),
    "its options": ({"pipe_target": NEXT | {"options": 1}}, InvalidOption, "pipe_target.options must be a dict"),
    "its args": ({"pipe_target": NEXT | {"args": "ab"}}, InvalidArguments, "options.pipe_target.args must be a list"),
    "its delay": ({"pipe_target": NEXT | {"options": {"delay": -1}}}, InvalidOption, "pipe_target: delay=-1"),
    "no list": ({"group_completion_callbacks": NEXT}, InvalidOption, "callbacks must be a list of messages"),
    "its tenant": (
        {"group_completion_callbacks": [NEXT | {"options": {"tenant": 5}}]},
        InvalidName,
        r"callbacks\[0\]: 5 is no tenant",
    ),
}
WITH_OPTIONS: dict[str, Callable[..., Any]] = {
    "send": lambda first, two, rows, **options: two.send_with_options(**options),
    "asend": lambda first, two, rows, **options: asyncio.run(two.asend_with_options(**options)),
    "message": lambda first, two, rows, **options: two.broker.enqueue(two.message_with_options(**options)),
    "pipeline, 2nd": lambda first, two, rows, **options: (first.message() | two.message_with_options(**options)).run(),
    "group, back": lambda first, two, rows, **options: _group(first.message(), two.message_with_options(**options)),
    "outbox": lambda first, two, rows, **options: outbox.enqueue_with_options(Session(rows), two, **options),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_wrong_options(case: str, first: AnyTask, two: AnyTask, rows: list[Any]) -> None:
    options, kind, words = OPTIONS[case]
    words = words.removeprefix(r"options\.")  # a later message's have a longer path
    for name, way in WITH_OPTIONS.items():
        refuses(name, kind, words, partial(way, first, two, rows, **options))


def test_a_message_that_contains_itself(first: AnyTask, two: AnyTask) -> None:
    message: Any = two.message()
    message.options["pipe_target"] = message.asdict()
    for name, way in {"first": lambda: two.broker.enqueue(message), "second": (first.message() | message).run}.items():
        refuses(name, InvalidArguments, "nested too deep, or contain themselves", way)


DELAYS: dict[str, tuple[Any, str]] = {
    "negative": (-1, "from 0 to 253,402,300,799,999 milliseconds, not -1"),
    "timedelta": (timedelta(days=-1), "from 0 to"),
    "far": (10**18, "from 0 to"),
    "further": (10**400, "from 0 to"),
    "nan": (math.nan, "a number of milliseconds or a timedelta, not nan"),
    "text": ("5", "a number of milliseconds or a timedelta, not '5'"),
}


@pytest.mark.parametrize("case", DELAYS)
def test_wrong_delays(case: str, first: AnyTask, two: AnyTask, rows: list[Any]) -> None:
    delay, words = DELAYS[case]
    ways: dict[str, Callable[[], Any]] = {
        "send": lambda: two.send_with_options(delay=delay),
        "asend": lambda: asyncio.run(two.asend_with_options(delay=delay)),
        "broker": lambda: two.broker.enqueue(two.message(), delay=delay),
        "group": lambda: _group(two.message(), delay=delay),
        "outbox": lambda: outbox.enqueue_with_options(Session(rows), two, delay=delay),
    }
    for name, way in ways.items():
        refuses(name, InvalidOption, words, way)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"eta": "2030-01-01"}, "eta must be a datetime with a time zone"),
        ({"eta": datetime(2030, 1, 1)}, "eta needs a time zone"),
        ({"eta": datetime(2030, 1, 1, tzinfo=UTC), "delay": 1}, "either delay or eta, not both"),
    ],
)
def test_wrong_moments(given: dict[str, Any], words: str, two: AnyTask, rows: list[Any]) -> None:
    with pytest.raises(InvalidOption, match=words):
        two.send_with_options(**given)
    with pytest.raises(InvalidOption, match=words):
        outbox.enqueue_with_options(Session(rows), two, **given)
    assert issubclass(InvalidOption, ValueError)
