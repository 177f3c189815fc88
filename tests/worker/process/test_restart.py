"""How long a process's place stays empty after its death, as a table."""

from __future__ import annotations

from itertools import accumulate, repeat

import pytest

from fourlane.worker.process.restart import End, pause_seconds

FAULT = End(wanted=False, guilty=False, worked=False, served=False, lived_seconds=0.4)


@pytest.mark.parametrize(
    ("end", "before", "pause"),
    [
        (FAULT, 0.0, 0.5),  # an import that kills it
        (FAULT, 0.5, 1.0),
        (FAULT, 16.0, 30.0),
        (FAULT, 30.0, 30.0),
        (FAULT._replace(lived_seconds=60.0), 4.0, 8.0),  # a start that fails late is no better
        (FAULT._replace(served=True), 0.0, 0.5),  # it serves, and dies before it has done anything
        (FAULT._replace(served=True), 1.5, 2.0),
        (FAULT._replace(served=True, lived_seconds=11.0), 2.0, 0.0),
        (FAULT._replace(served=True, worked=True), 2.0, 0.0),
        (FAULT._replace(served=True, guilty=True), 2.0, 0.0),  # its jobs count crashes, which ends that
        (FAULT._replace(wanted=True), 30.0, 0.0),
    ],
)
def test_the_pause(end: End, before: float, pause: float) -> None:
    assert pause_seconds(end, before) == pause


def test_a_process_that_never_works_is_started_twice_a_minute_in_the_end() -> None:
    pauses = list(accumulate(repeat(FAULT, 8), lambda before, end: pause_seconds(end, before), initial=0.0))[1:]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
