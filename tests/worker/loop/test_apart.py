"""Suspects of poison: when they begin, how many together, and that others go on meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from fourlane.outcome import Back, Postpone
from fourlane.queues.contact import Contact
from fourlane.queues.turn import Leased
from fourlane.worker.loop.apart import Apart, trial_seconds
from fourlane.worker.loop.service import Service
from fourlane.worker.table import Leave, Table

FREE, SUSPECTS_WAIT, WARY, WARY_AND_TRIES = Leave(), Leave(False, False), Leave(False, True), Leave(True, True)


class Running:
    """An executor that runs what it gets until it is told that all ended."""

    def __init__(self, table: Table, threads: int = 1000) -> None:
        self.backlog: SimpleQueue[Any] = SimpleQueue()
        self.runs: list[Any] = []
        self.begun: list[str] = []
        self.table = table
        self.threads = threads
        self.now = 100.0

    def running(self) -> list[Any]:
        return self.runs

    in_hand = running

    def free(self) -> tuple[int, int]:
        return self.threads - len(self.runs), 0

    def is_async(self, leased: Leased) -> bool:
        return False

    def start(self, service: Service, jobs: list[Leased]) -> int:
        for leased in jobs:
            row = len(self.begun)
            self.table.begin(row, service.number, leased.entry.encode(), 0.0)
            if leased.crashes >= 2:
                self.table.suspect(row)
            self.runs.append(SimpleNamespace(leased=leased, row=row, started=self.now))
            self.begun.append(leased.entry)
        return 0


def jobs(number: int, crashes: int, mark: str = "1s") -> list[Leased]:
    return [Leased(f"{mark}{n}|r", b"", b"", crashes) for n in range(number)]


@pytest.fixture
def service() -> Service:
    return Service("work", 0, "0123", "me", Contact(0.0))


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table.create(1000)
    yield made
    made.close()


def make(table: Table, threads: int = 1000, *, since: float = 0.0) -> tuple[Apart, Running]:
    executor: Any = Running(table, threads)
    return Apart(executor, 3, table=table, choose=lambda group, count: group[:count], since=since), executor


@pytest.mark.parametrize(
    ("leave", "crashes", "at_once"),
    [
        (FREE, 0, True),
        (FREE, 1, True),
        (FREE, 2, False),
        (SUSPECTS_WAIT, 1, True),
        (WARY, 0, True),
        (WARY, 1, False),
        (WARY_AND_TRIES, 1, False),
    ],
)
def test_who_is_a_suspect(table: Table, service: Service, leave: Leave, crashes: int, at_once: bool) -> None:
    table.grant(leave)
    apart, _ = make(table)
    begins = apart.divide(service, jobs(1, crashes), 100.0)
    assert bool(begins) is at_once
    assert apart.held(service) == (set() if at_once else {"1s0|r"})


@pytest.mark.parametrize(
    ("leave", "crashes", "begins"), [(SUSPECTS_WAIT, 2, False), (WARY, 1, False), (WARY_AND_TRIES, 1, True)]
)
def test_suspects_begin_where_they_may(
    table: Table, service: Service, leave: Leave, crashes: int, begins: bool
) -> None:
    table.grant(leave)
    apart, executor = make(table)
    apart.divide(service, jobs(3, crashes), 100.0)
    assert apart.start(100.0) is begins
    assert len(executor.begun) == (3 if begins else 0)
    assert not apart.wants_room()


def test_half_of_those_with_most_crashes_begin_and_the_rest_when_they_lived(table: Table, service: Service) -> None:
    table.grant(Leave(escapes=1))
    apart, executor = make(table)
    assert apart.divide(service, [*jobs(8, 3), *jobs(5, 2, "1few"), *jobs(2, 0, "1good")], 100.0) == jobs(2, 0, "1good")
    assert apart.start(100.0)
    assert executor.begun == [f"1s{n}|r" for n in range(4)]
    assert not apart.start(100.0 + trial_seconds(1) - 0.1)
    assert [running.entry for running in table.blame().crashed] == executor.begun
    assert apart.start(100.0 + trial_seconds(1))
    assert executor.begun[4:] == [f"1s{n}|r" for n in range(4, 8)]
    assert len(service.uncertain) == 5  # those with fewer crashes need not wait here so long
    assert [running.entry for running in table.blame().crashed] == executor.begun[4:]  # who lived is not blamed
    assert [running.entry for running in table.blame().passed] == executor.begun[:4]
    executor.runs.clear()
    assert not apart.start(101.0 + trial_seconds(1))
    assert not apart.has_suspects
    assert len(table.blame().crashed) == 8  # all, when nobody is on trial


def test_a_trial_ends_when_all_ended(table: Table, service: Service) -> None:
    apart, executor = make(table)
    apart.divide(service, jobs(8, 2), 100.0)
    apart.start(100.0)
    executor.runs.clear()
    assert apart.start(100.1)
    assert len(executor.begun) == 8


def test_one_that_is_left_runs_alone_and_the_others_have_their_half_of_the_time(table: Table, service: Service) -> None:
    apart, executor = make(table)
    executor.start(service, jobs(1, 0, "1good"))
    apart.divide(service, jobs(2, 2), 100.0)
    assert not apart.start(100.0)
    assert apart.wants_room()  # nothing else begins, so that this process runs empty
    executor.runs.clear()
    assert not apart.start(100.01)  # a thread may just have taken one
    assert apart.start(100.1)
    assert executor.begun == ["1good0|r", "1s0|r"]
    executor.runs.clear()
    assert not apart.start(100.7)  # the others' time
    assert not apart.start(101.3)
    executor.runs.clear()
    assert apart.start(101.4)
    assert executor.begun[2:] == ["1s1|r"]


@pytest.mark.parametrize(("began", "waits"), [(90.0, 0.02), (99.5, 0.52), (100.0, 1.0)])
def test_one_that_is_left_waits_for_those_that_may_end_in_a_moment(
    table: Table, service: Service, began: float, waits: float
) -> None:
    apart, executor = make(table)
    executor.now = began
    executor.start(service, jobs(1, 0, "1good"))
    apart.divide(service, jobs(1, 2), 100.0)
    begins = [step / 100 for step in range(150) if apart.start(100.0 + step / 100)]
    assert begins == [pytest.approx(waits, abs=0.011)]


@pytest.mark.parametrize(("escapes", "seconds"), [(0, 1.0), (1, 4.0), (5, 300.0)])
def test_one_that_is_tried_alone_has_as_long_as_killers_took(
    table: Table, service: Service, escapes: int, seconds: float
) -> None:
    table.grant(Leave(escapes=escapes))
    apart, executor = make(table)
    apart.divide(service, jobs(3, 2), 100.0)
    assert not apart.start(100.0)
    assert apart.start(100.1)
    assert not apart.start(100.0 + seconds)
    executor.now = 0.0  # the first has run for long
    executor.runs[0].started = 0.0
    steps = [100.1 + seconds + step / 100 for step in range(150)]
    assert next(now for now in steps if apart.start(now)) < 101.3 + seconds
    assert executor.begun == ["1s0|r", "1s1|r"]
    assert not table.blame().alone  # the other suspect may be the cause
    assert [running.entry for running in table.blame().crashed] == ["1s1|r"]


def test_what_a_death_tells_of_one_that_is_tried_alone(table: Table, service: Service) -> None:
    apart, executor = make(table)
    apart.divide(service, jobs(1, 2), 100.0)
    assert [apart.start(100.0), apart.start(100.1)] == [False, True]
    assert (table.blame().alone, table.blame().escaped) == (True, False)
    executor.start(service, jobs(1, 0, "1good"))
    assert table.blame().alone  # whoever began since is no suspect, and counts a crash too
    assert len(table.blame().crashed) == 2
    assert not apart.start(101.2)
    assert (table.blame().alone, table.blame().escaped) == (False, True)
    assert len(table.blame().crashed) == 2


@pytest.mark.parametrize(("crashes", "beside", "begins"), [(2, True, True), (3, True, False), (3, False, True)])
def test_who_was_tried_before_lets_the_others_show_what_they_do(
    table: Table, service: Service, crashes: int, beside: bool, begins: bool
) -> None:
    table.grant(Leave(escapes=1))
    apart, executor = make(table, since=96.5)
    executor.now = 90.0
    executor.start(service, jobs(beside, 0, "1good"))
    apart.divide(service, jobs(1, crashes), 100.0)
    assert any([apart.start(100.0), apart.start(100.1)]) is begins
    assert any([apart.start(100.5), apart.start(100.6)]) is not begins


def test_no_more_begin_than_find_room_and_the_highest_tier_first(table: Table, service: Service) -> None:
    table.grant(WARY_AND_TRIES)
    apart, executor = make(table, threads=2)
    apart.divide(service, [*jobs(5, 1), *jobs(1, 1, "0urgent")], 100.0)
    assert apart.start(100.0)
    assert executor.begun == ["0urgent0|r"]
    assert apart.start(100.0)
    assert executor.begun[1:] == ["1s0|r"]


def test_what_finds_no_room_here_is_another_processes(table: Table, service: Service) -> None:
    table.grant(WARY)
    apart, _ = make(table)
    apart.divide(service, jobs(2, 1), 100.0)
    assert not apart.start(102.9)
    assert service.uncertain == []
    assert not apart.start(103.0)
    assert [(entry, type(outcome)) for entry, outcome in service.uncertain] == [
        ("1s0|r", Postpone),
        ("1s1|r", Postpone),
    ]
    assert not apart.has_suspects


def test_suspects_that_wait_are_cancelled_lost_and_given_back(table: Table, service: Service) -> None:
    table.grant(WARY)
    apart, _ = make(table)
    apart.divide(service, jobs(4, 2), 100.0)
    apart.cancel({"1s0"})
    assert service.uncertain == [("1s0|r", Back())]  # the turn knows that it was cancelled
    apart.forget(service, but={"1s1|r", "1s2|r"})
    assert apart.held(service) == {"1s1|r", "1s2|r"}
    apart.give_back()
    assert service.uncertain[1:] == [("1s1|r", Back()), ("1s2|r", Back())]
    assert not apart.has_suspects


@pytest.mark.parametrize(("trials", "seconds"), [(0, 1), (1, 4), (2, 16), (3, 64), (99, 300)])
def test_trials_grow_longer(trials: int, seconds: float) -> None:
    assert trial_seconds(trials) == seconds
