"""Waiting for the result of a job."""

from __future__ import annotations

import time

import pytest

from fourlane import ResultNotKept, ResultTimeout
from fourlane.queues.broker import RedisBroker
from fourlane.tasks.task import task


def test_a_task_that_keeps_no_result_says_so_at_once(broker: RedisBroker) -> None:
    @task
    def plain() -> None: ...

    for sent in (plain.send(), plain.send_many([[]])[0], plain.send_with_options(delay=1)):
        with pytest.raises(ResultNotKept, match="result_ttl_ms"):
            sent.result(None)
    with pytest.raises(ResultTimeout):
        plain.send_with_options(result_ttl_ms=1_000).result(0.3)


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
    assert time.monotonic() - began < 10
