"""Processes are replaced after so many jobs, so long, or so much memory."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fourlane.job import State
from tests.workers import Workers, alive, eventually


@pytest.mark.parametrize(
    ("setting", "limit", "task"),
    [
        ("FOURLANE_RECYCLE_JOBS", "5", ("quick",)),
        ("FOURLANE_RECYCLE_SECONDS", "2", ("quick",)),
        ("FOURLANE_RECYCLE_RSS_MB", "250", ("swell", 60)),  # an idle process has some 60 MB
    ],
)
def test_recycling(workers: Workers, setting: str, limit: str, task: tuple[Any, ...]) -> None:
    supervisor = workers.start("--slots", "2", **{setting: limit})
    (old,) = workers.children(supervisor)
    held = workers.send("hold", "h")
    eventually(lambda: workers.said("begun", "h"))
    sent = 0

    def recycled() -> bool:
        return "recycle" in workers.log(supervisor)

    while not recycled():
        workers.send(task[0], f"n{sent}", *task[1:])
        sent += 1
        # One that comes when the old process takes no more runs in the new one.
        eventually(lambda name=f"n{sent - 1}": workers.is_done(name) or recycled())  # type: ignore[misc]
        time.sleep(0.1)
    workers.send("quick", "after")
    workers.open_gate("h")
    (new,) = eventually(lambda: workers.said("done", "after"))
    assert new != old
    assert not alive(old)
    assert workers.said("begun", "h") == workers.said("done", "h") == [old]  # it had its grace
    assert held.status() is State.UNKNOWN
    eventually(lambda: all(workers.is_done(f"n{number}") for number in range(sent)))
    assert "died" not in workers.log(supervisor)
