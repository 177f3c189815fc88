"""Suspects of poison: how many begin together, and that others go on meanwhile."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

import pytest

from fourlane.outcome import Postpone
from fourlane.queues.contact import Contact
from fourlane.queues.store import Leased
from fourlane.worker.apart import Apart, halved
from fourlane.worker.lane import Lane


@pytest.mark.parametrize(
    ("suspects", "one_half_lived", "together"),
    [(1, False, 1), (2, False, 1), (3, False, 1), (4, False, 2), (400, False, 200), (400, True, 400)],
)
def test_half_of_them_begin_together(suspects: int, one_half_lived: bool, together: int) -> None:
    assert halved(suspects, one_half_lived=one_half_lived) == together


class Idle:
    """An executor that runs nothing."""

    def __init__(self) -> None:
        self.backlog: SimpleQueue[Any] = SimpleQueue()
        self.begun: list[str] = []

    def running(self) -> list[Any]:
        return []

    def start(self, lane: Lane, jobs: list[Leased]) -> int:
        self.begun += [leased.entry for leased in jobs]
        return 0


def jobs(number: int, crashes: int, mark: str = "s") -> list[Leased]:
    return [Leased(f"1{mark}{n}|r", b"", b"", crashes) for n in range(number)]


@pytest.fixture
def lane() -> Lane:
    return Lane("work", 0, "0123", "me", Contact(0.0))


def test_a_hundred_suspects_begin_in_some_steps_and_nobody_else_waits(lane: Lane) -> None:
    apart = Apart(Idle(), 3)  # type: ignore[arg-type]
    waiting, now, steps = jobs(100, 2), 100.0, 0
    while waiting and steps < 10:
        begun = apart.divide(lane, [*waiting[:60], *jobs(3, 0, "good")], now)
        assert [leased.entry for leased in begun[:3]] == [leased.entry for leased in jobs(3, 0, "good")]
        begun += apart.divide(lane, waiting[60:], now)  # leased in two turns
        assert not apart.wants_room()
        waiting = [leased for leased in waiting if leased not in begun]
        now, steps = now + 1.05, steps + 1
    assert steps <= 4
    assert all(isinstance(outcome, Postpone) for _, outcome in lane.uncertain)


def test_one_that_is_left_runs_alone_and_the_others_have_their_half_of_the_time(lane: Lane) -> None:
    executor = Idle()
    apart = Apart(executor, 3)  # type: ignore[arg-type]
    now = 100.0
    assert apart.divide(lane, jobs(2, 2), now) == []
    assert apart.wants_room()
    assert [entry for entry, _ in lane.uncertain] == ["1s1|r"]  # the second waits in Redis
    assert apart.start(now)
    assert executor.begun == ["1s0|r"]
    lane.uncertain.clear()
    assert apart.divide(lane, jobs(1, 2, "t"), now + 0.6) == []
    assert [entry for entry, _ in lane.uncertain] == ["1t0|r"]
    assert apart.divide(lane, jobs(1, 2, "t"), now + 2.0) == []
    assert apart.start(now + 2.0)
    assert executor.begun == ["1s0|r", "1t0|r"]


def test_the_first_crashes_make_no_suspect(lane: Lane) -> None:
    apart = Apart(Idle(), 3)  # type: ignore[arg-type]
    assert len(apart.divide(lane, jobs(5, 1), 100.0)) == 5
