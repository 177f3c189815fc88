"""When a scheduler looks at a service again, and what it sends: without any Redis."""

from __future__ import annotations

import math
import time

import pytest

from fourlane.queues.schedules import Due, Fire
from fourlane.scheduler.agenda import LOOK_SECONDS, Agenda

NOW = 1_000_000


def fire(name: str, moment_ms: int) -> Fire:
    return Fire(name, b"", moment_ms, "", b"", "", b"", 0, "")


@pytest.mark.parametrize(
    ("before", "due", "look_after", "follows"),
    [
        # Something is due: whoever was told leads, and looks again once it has sent what it prepared.
        (Agenda(follows=True), Due(NOW, "due", 0, []), 0.0, False),
        # Another one leads.
        (Agenda(), Due(NOW, "busy", 3_000, []), 3.0, True),
        # Nothing is scheduled at all.
        (Agenda(), Due(NOW, "idle", -1, []), LOOK_SECONDS, False),
        # Due in a minute: a second before it, to prepare it.
        (Agenda(), Due(NOW, "idle", 60_000, []), 59.0, False),
        # Who follows comes a little after it.
        (Agenda(follows=True), Due(NOW, "idle", 60_000, []), 60.3, True),
        # It was due meanwhile, and is not any more: another one did it, so that one leads.
        (Agenda(due_at=99.0), Due(NOW, "idle", 60_000, []), 60.3, True),
        # Due in less than the time of preparing: at once.
        (Agenda(), Due(NOW, "idle", 400, []), 0.0, False),
        # Due after the longest sleep.
        (Agenda(), Due(NOW, "idle", 3_600_000, []), LOOK_SECONDS, False),
    ],
)
def test_when_it_looks_again(before: Agenda, due: Due, look_after: float, follows: bool) -> None:
    before.learn(due, 100.0)
    assert (before.look_at, before.follows) == (pytest.approx(100.0 + look_after), follows)
    assert before.told_ms == NOW


def test_what_is_due_is_taken_in_its_order() -> None:
    agenda = Agenda()
    agenda.told(NOW, time.monotonic())
    agenda.wait_for([fire("later", NOW + 60_000), fire("second", NOW - 1), fire("first", NOW - 2)])
    assert agenda.act_at() < time.monotonic()
    taken, rest = agenda.take()
    assert [one.name for one in taken] == ["first", "second"]
    assert [one.name for one in rest] == ["later"]
    assert agenda.waiting == []


def test_nothing_is_taken_before_its_moment() -> None:
    agenda = Agenda()
    agenda.told(NOW, time.monotonic())
    agenda.wait_for([fire("later", NOW + 60_000)])
    assert agenda.take() == ([], agenda.waiting)
    assert agenda.act_at() == pytest.approx(agenda.told_at + 60)


def test_a_batch_is_bounded() -> None:
    agenda = Agenda()
    agenda.told(NOW, time.monotonic())
    agenda.wait_for(fire(str(number), 0) for number in range(300))
    taken, rest = agenda.take()
    assert (len(taken), len(rest)) == (250, 50)


def test_an_edit_voids_what_is_prepared() -> None:
    agenda = Agenda(look_at=math.inf)
    agenda.wait_for([fire("later", NOW)])
    agenda.look_now()
    assert (agenda.waiting, agenda.act_at()) == ([], 0.0)
