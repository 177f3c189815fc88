"""When jobs that found no place of their task's share look again."""

from __future__ import annotations

import threading
import time

import pytest

from fourlane.worker.run.gate import Gate
from tests.servers import eventually


def pauses(gate: Gate, number: int, now: float) -> list[int]:
    return [gate.pause_ms(now) for _ in range(number)]


@pytest.mark.parametrize(
    ("places", "run_seconds", "first_ms", "step_ms"),
    [
        (2, 0.002, 200, 0.2),  # short: they are wanted again soon
        (2, 1.0, 500, 50),
        (1, 0.3, 300, 30),  # ten looks between two ends
        (50, 0.5, 200, 1),
        (1, 60.0, 5_000, 50),  # long: not seldom all the same
    ],
)
def test_they_look_again_one_after_the_other(places: int, run_seconds: float, first_ms: int, step_ms: float) -> None:
    gate = Gate(places, lambda gate: None)
    assert gate.enter(patient=False)
    gate.leave(run_seconds)
    now = time.monotonic()
    found = pauses(gate, 11, now)
    assert found[0] == pytest.approx(first_ms, abs=2)
    assert found[10] - found[0] == pytest.approx(10 * step_ms, abs=2)


def test_however_many_they_are_none_looks_later_than_after_half_a_minute() -> None:
    gate = Gate(1, lambda gate: None)
    assert gate.enter(patient=False)
    gate.leave(10.0)
    assert max(pauses(gate, 2_000, time.monotonic())) == 30_000


def test_who_runs_for_longer_than_those_before_counts() -> None:
    gate = Gate(2, lambda gate: None)
    assert gate.enter(patient=False)
    gate.leave(0.001)
    assert gate.enter(patient=False)
    now = time.monotonic()
    assert gate.pause_ms(now + 4) == pytest.approx(2_000, abs=5)


def test_a_coroutine_waits_only_where_a_place_is_free_in_a_moment() -> None:
    freed: list[Gate] = []
    gate = Gate(1, freed.append)
    assert gate.enter(patient=False)
    gate.leave(0.006)
    assert gate.enter(patient=False)
    assert [gate.let_wait(number) for number in range(4)] == [True, True, True, False]
    assert freed == []
    gate.leave(0.006)
    assert freed == [gate]
    assert [run for _, run in gate.waiting] == [0, 1, 2]
    long = Gate(1, freed.append)
    assert long.enter(patient=False)
    long.leave(1.0)
    assert not long.let_wait(0)


def test_few_threads_wait_for_a_place(long_patience: None) -> None:
    """Each of them keeps a slot from other tasks meanwhile."""
    gate = Gate(1, lambda gate: None)
    assert gate.enter(patient=False)
    entered: list[bool] = []
    threads = [threading.Thread(target=lambda: entered.append(gate.enter(patient=True))) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: entered == [False] * 3)
    gate.leave(0.001)
    for thread in threads:
        thread.join(5)
    assert entered == [False] * 3 + [True]


@pytest.fixture
def long_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fourlane.worker.run.gate.PATIENCE_SECONDS", 2.0)
