"""The log lines of a worker."""

from __future__ import annotations

import logging

import pytest

from fourlane.observe.lines import Parked


def test_one_line_a_minute_for_each_task(caplog: pytest.LogCaptureFixture) -> None:
    parked = Parked(seconds=60.0)
    with caplog.at_level(logging.WARNING):
        for number in range(50):
            parked.tell(f"j{number}", "new", 500)
            parked.tell(f"k{number}", "newer", 500)
    assert [line.split(" again")[0] for line in caplog.messages] == [
        "unknown-task task=new jobs=1 job=j0",
        "unknown-task task=newer jobs=1 job=k0",
    ]
    parked = Parked(seconds=0.0)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        parked.tell("j", "new", 500)
    assert len(caplog.messages) == 1
