"""Which processes may try suspects, as tables."""

from __future__ import annotations

import pytest

from fourlane.worker.process.triers import Place, escapes_of_late, is_wary, triers

UP = Place(serves_since=10.0, start_seconds=0.4, died_at=0.0)
DOWN = Place(serves_since=0.0, start_seconds=0.0, died_at=99.0)


@pytest.mark.parametrize(
    ("places", "number"),
    [
        ([], 0),
        ([UP], 1),
        ([UP._replace(serves_since=99.8)], 0),  # the only one works for others first, as long as it started
        ([UP._replace(serves_since=99.5)], 1),
        ([UP, UP], 1),
        ([UP, UP, UP], 1),
        ([UP] * 4, 2),
        ([UP, DOWN], 0),  # the one that is up serves
        ([UP, UP, UP, DOWN], 1),
        ([UP, DOWN._replace(died_at=94.0)], 1),  # it does not come back: suspects do not wait for ever
        ([DOWN], 0),
    ],
)
def test_at_most_half_are_down_or_try(places: list[Place], number: int) -> None:
    assert len(triers(places, 100.0)) == number


@pytest.mark.parametrize("processes", [2, 3, 4, 7])
def test_they_take_turns(processes: int) -> None:
    seen = [triers([UP] * processes, 100.0 + 0.5 * turn) for turn in range(processes)]
    assert set().union(*seen) == set(range(processes))


@pytest.mark.parametrize(
    ("deaths", "wary"),
    [([], False), ([99.0], False), ([89.0, 99.0], False), ([92.0, 99.0], True), ([80.0, 81.0], False)],
)
def test_two_deaths_in_ten_seconds_make_a_worker_wary(deaths: list[float], wary: bool) -> None:
    assert is_wary(deaths, 100.0) is wary


def test_escapes_are_forgotten_after_an_hour() -> None:
    assert escapes_of_late([100.0, 3_000.0, 3_900.0], 4_000.0) == 2
