"""Redis away: our error and dramatiq's at once, wherever dramatiq's API is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq.errors import ConnectionClosed

from fourlane.errors import RedisUnavailable
from fourlane.queues.broker import RedisBroker
from fourlane.queues.redis import is_passing
from fourlane.tasks.sending import Task
from fourlane.tasks.task import task

NOBODY = "redis://127.0.0.1:1/0"


def work() -> None: ...


@pytest.fixture(scope="module")
def away() -> Iterator[RedisBroker]:
    broker = RedisBroker(url=NOBODY, environment="local")
    yield broker
    broker.close()


@pytest.fixture(scope="module")
def declared(away: RedisBroker) -> Task[[], None]:
    made = task(work, broker=away, name="declared", service="work")
    assert isinstance(made, Task)
    return made


@pytest.fixture(scope="module")
def actor(away: RedisBroker) -> dramatiq.Actor[[], None]:
    return dramatiq.actor(work, broker=away, actor_name="actor")


@pytest.mark.parametrize(
    "call",
    [
        lambda broker, declared, actor: declared.send(),
        lambda broker, declared, actor: declared.send_with_options(delay=1_000),
        lambda broker, declared, actor: declared.send_many([()]),
        lambda broker, declared, actor: actor.send(),
        lambda broker, declared, actor: broker.consume("default"),
        lambda broker, declared, actor: broker.join("default"),
        lambda broker, declared, actor: broker.flush_all(),
    ],
    ids=["send", "delay", "send_many", "actor.send", "consume", "join", "flush"],
)  # fmt: skip
def test_both_errors_are_caught(
    away: RedisBroker, declared: Task[[], None], actor: dramatiq.Actor[[], None], call: Callable[..., Any]
) -> None:
    with pytest.raises(RedisUnavailable, match="is the server running") as caught:
        call(away, declared, actor)
    assert isinstance(caught.value, ConnectionClosed)
    assert is_passing(caught.value)  # it has the cause that ours has


def test_ours_is_not_dramatiqs() -> None:
    assert RedisUnavailable.__mro__[1:3] == (RedisUnavailable.__base__, Exception)
