"""Results that cannot be kept."""

from __future__ import annotations

from typing import Any

import pytest

from fourlane import JobFailed, ResultRefused, State
from fourlane.queues.broker import Defaults, RedisBroker
from fourlane.tasks.task import task
from tests.worker.conftest import RunWorker
from tests.worker.ends import dead


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
