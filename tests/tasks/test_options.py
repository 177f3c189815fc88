"""Options that mean nothing are refused where they are given: by a task, an actor, a call."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dramatiq
import pytest

import fourlane
from fourlane.errors import InvalidOption
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import Backoff, task
from tests.test_options import WRONG


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
