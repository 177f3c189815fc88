"""What a worker knows of a service, and what it asks: no server, and the clock is given."""

from __future__ import annotations

import math

import pytest

from fourlane.queues.contact import Contact
from fourlane.worker.loop.order import Choice, Shares, whose_turn
from fourlane.worker.loop.service import Service

NOW = 1_000.0


def service(maybe: str, name: str = "mail") -> Service:
    made = Service(name, 0, "0123", "w", Contact(0.0))
    made.tiers.tried("0123", maybe)
    return made


@pytest.mark.parametrize(
    ("maybe", "best", "at"),
    [
        ("0", "0", 0.0),  # P1 to P3 may wait, and no token told of it: nobody listens for them meanwhile
        ("", "0", 0.0),  # another service has something better
        ("3", "3", math.inf),  # there is nothing below
    ],
)
def test_tiers_that_nobody_listens_for_are_asked_for(maybe: str, best: str, at: float) -> None:
    assert service(maybe).tiers.asks_ages_at(best) == at


def test_they_are_asked_for_again_when_the_first_may_have_passed_its_target() -> None:
    made = service("0").tiers
    made.learn_ages((5, 4_000, None, 500), NOW)
    assert made.maybe == {"0", "1", "3"}
    assert made.asks_ages_at("0") == NOW + 6  # P1 waits 4 s of 10
    made.learn_ages((5, 10_001, None, 500), NOW + 6)
    assert made.late == {"1"}
    made.learn_ages((5, None, None, 500), NOW + 9)
    assert (made.late, made.maybe) == (set(), {"0", "3"})


def test_late_tiers_of_several_services_share_what_the_tier_is_owed() -> None:
    """Of few slots too: with one lease at a time each service of the tier gets its part."""
    services = [service("0", name) for name in "abc"]
    for made in services:
        made.tiers.learn_ages((5, 11_000, None, None), NOW)
    shares, got = Shares(), []
    for number in range(1, 61):
        choice = whose_turn(services, 1, shares)
        assert isinstance(choice, Choice)
        choice.service.gave(number)
        if choice.first:
            got.append(choice.service.name)
            shares.paid("1", 1)
        else:
            shares.leased(1, {"1"})
    assert len(got) == 6
    assert sorted(got) == ["a", "a", "b", "b", "c", "c"]
