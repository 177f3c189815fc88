"""What a turn asks, as a table: no server, and the clock is given."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fourlane.queues.contact import Contact
from fourlane.queues.turn import Ask, First, Leased, Turn
from fourlane.worker.loop.asking import what_to_ask
from fourlane.worker.loop.service import Service

NOW = 1_000.0
IDLE_MS = 60_000
EVERY = "0123"
Before = Callable[[Service], None]


def known(service: Service) -> None:
    """It was just looked at, and nothing waits."""
    service.learn(Turn(), Ask(look=True, beat=True), NOW)
    service.tiers.tried(EVERY, "")
    service.agenda.look_next(NOW + 20)


def nothing(service: Service) -> None:
    """As it is at first."""


def token(service: Service) -> None:
    known(service)
    service.tiers.heard("2")


def more(service: Service) -> None:
    known(service)
    service.tiers.tried(EVERY, "2")


def holds(service: Service) -> None:
    """One job, leased with a beat and the word to watch."""
    known(service)
    jobs = [Leased("1a", b"", b"", 0)]
    service.learn(Turn(jobs=jobs), Ask(1, EVERY, beat=True, watch=True), NOW)
    service.leased(jobs)


def limited(service: Service) -> None:
    holds(service)
    service.learn(Turn(controlled=True), Ask(look=True), NOW)


def refused(service: Service) -> None:
    limited(service)
    service.settle_fewer(1)


def rests(service: Service) -> None:
    more(service)
    for _ in range(20):
        service.tiers.crowd("2", NOW)


@pytest.mark.parametrize(
    ("before", "after_seconds", "want", "settles", "asked"),
    [
        # Of a service of which nothing is known all is asked.
        (nothing, 0, 2, 0, Ask(2, EVERY, look=True, beat=True, watch=True)),
        # And nothing of one that was just looked at, even if there is room.
        (known, 0, 0, 0, Ask()),
        (known, 30, 0, 0, Ask(look=True, beat=True)),
        # A token tells of its tier alone; who leases after an idle beat tells of itself.
        (token, 0, 2, 0, Ask(2, "2", beat=True, watch=True)),
        (more, 0, 2, 0, Ask(2, EVERY, beat=True, watch=True)),
        (rests, 0, 2, 0, Ask(2, "013", beat=True, watch=True)),
        # A lone job's settling asks nothing.
        (holds, 0, 0, 1, Ask()),
        (holds, 0, 1, 1, Ask(1)),
        # While others run, the news are read; and a second after the last beat another is due.
        (holds, 0, 0, 0, Ask(held=1, news=True)),
        (holds, 1, 1, 0, Ask(1, EVERY, held=1, beat=True, news=True)),
        # Half a silence later it looks after the others, and a whole one later it wants to be watched anew.
        (holds, 2.5, 0, 0, Ask(held=1, look=True, beat=True, news=True)),
        (holds, 5.1, 0, 0, Ask(held=1, look=True, beat=True, news=True, watch=True)),
        (limited, 0, 0, 1, Ask(control=True)),
        # After a refusal nothing else goes with a settlement.
        (refused, 30, 4, 1, Ask(control=True)),
    ],
)
def test_what_is_asked(before: Before, after_seconds: float, want: int, settles: int, asked: Ask) -> None:
    service = Service("mail", 0, EVERY, "w", Contact(0.0))
    before(service)
    ask = what_to_ask(service, NOW + after_seconds, want=want, settles=settles, idle_silence_ms=IDLE_MS)
    fields = {name: getattr(ask, name) for name in Ask.__struct_fields__}
    wanted = {name: getattr(asked, name) for name in Ask.__struct_fields__}
    assert fields == wanted | {"idle_silence_ms": IDLE_MS}


def test_a_share_comes_first_and_nothing_that_another_service_has_is_leased() -> None:
    service = Service("mail", 0, EVERY, "w", Contact(0.0))
    ask = what_to_ask(service, NOW, want=4, down_to="1", first=First("3", 2), ages=True, idle_silence_ms=IDLE_MS)
    assert (ask.tiers, ask.first, ask.tried, ask.ages) == ("01", First("3", 2), "013", True)
