"""How much is leased, and when, as rules: the executor is only counted, and the clock is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from fourlane.worker.loop.appetite import Appetite


@dataclass
class Slots:
    """Of the executor what an appetite looks at."""

    slots: int = 8
    running: int = 1
    threads: tuple[str, ...] = ("slot",)
    has_async: bool = False
    crowded_at: float = 0.0
    backlog: SimpleQueue[Any] = field(default_factory=SimpleQueue)

    def running_threads(self) -> int:
        return self.running

    def free(self) -> tuple[int, int]:
        return self.slots - self.running, 0


def ran(appetite: Appetite, milliseconds: int, *, noticed_after: float = 0.0) -> None:
    """One plain job of that length, that a turn settles so many seconds after its end."""
    run: Any = SimpleNamespace(
        plan=SimpleNamespace(is_async=False), started=50.0, on_loop=False, ended_at=50.0 + milliseconds / 1000
    )
    for _ in range(20):
        appetite.ran(run, run.ended_at + noticed_after)


@pytest.mark.parametrize(
    ("milliseconds", "more", "got", "running", "wanted"),
    [
        (40, True, 1, 3, 0),  # of long jobs the next one comes a step later
        (40, True, 0, 3, 1),  # a step is spent by a job, not by asking a service that has none
        (40, False, 1, 3, 5),  # nothing else waits
        (40, True, 1, 0, 8),  # no slot is taken: there is nothing to keep out of step
        (1, True, 1, 3, 5),  # short ones need none
    ],
)
def test_long_jobs_are_leased_one_by_one_while_others_wait(
    milliseconds: int, more: bool, got: int, running: int, wanted: int
) -> None:
    appetite = Appetite(Slots(running=running))  # type: ignore[arg-type]
    ran(appetite, milliseconds)
    appetite.leased(1, got, more, now=100.0)
    assert appetite.want(100.001) == wanted
    assert appetite.want(100.030) == (1 if wanted < 2 else wanted)


def test_a_job_is_as_long_as_it_ran_not_as_it_waited_to_be_settled() -> None:
    appetite = Appetite(Slots())  # type: ignore[arg-type]
    ran(appetite, 1, noticed_after=0.5)
    appetite.leased(1, 1, True, now=100.0)
    assert appetite.want(100.001) == 7
