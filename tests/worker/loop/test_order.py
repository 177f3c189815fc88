"""Whose turn it is, as a table: no server, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from fourlane.queues.turn import First
from fourlane.worker.loop.order import Choice, Shares, whose_turn

Chosen = tuple[str, int, str, First | None]


@dataclass(eq=False)
class Service:
    name: str
    waiting: Sequence[str] = ()
    served: int = 0
    late: set[str] = field(default_factory=set)


def choice(*services: Service, want: int = 4, shares: Shares | None = None) -> Chosen | None:
    found = whose_turn(services, want, shares or Shares())
    return (found.service.name, found.want, found.down_to, found.first) if found is not None else None


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ([], None),
        ([Service("a")], None),
        # Alone it may give all it has.
        ([Service("a", "2")], ("a", 4, "9", None)),
        # A higher tier first, whatever the service; and none below what another has.
        ([Service("a", "2"), Service("b", "0")], ("b", 4, "1", None)),
        ([Service("a", "02"), Service("b", "1")], ("a", 4, "0", None)),
        ([Service("a", "2"), Service("b", "2")], ("a", 4, "2", None)),
        # Of one tier who was served longest ago.
        ([Service("a", "2", served=5), Service("b", "2", served=3)], ("b", 4, "2", None)),
        ([Service("a", "1", served=5), Service("b", "2", served=3)], ("a", 4, "1", None)),
        ([Service("a", "13", served=5), Service("b", "2"), Service("c", "1", served=9)], ("a", 4, "1", None)),
    ],
)
def test_who_is_asked(services: list[Service], expected: Chosen | None) -> None:
    assert choice(*services) == expected


def test_services_of_one_tier_take_turns() -> None:
    services = [Service(name, "2") for name in "abc"]
    order = []
    for number in range(1, 8):
        found = whose_turn(services, 1, Shares())
        assert isinstance(found, Choice)
        found.service.served = number
        order.append(found.service.name)
    assert order == list("abcabca")


def test_a_tier_past_its_target_gets_one_lease_in_ten() -> None:
    urgent, patient = Service("urgent", "0"), Service("patient", "1", late={"1"})
    shares = Shares()
    got: list[str] = []
    for _ in range(40):
        found = whose_turn([urgent, patient], 1, shares)
        assert found is not None
        got.append(found.service.name)
        if found.first:
            assert (found.down_to, found.first) == ("", First("1", 1))
            shares.paid("1", 1)
        else:
            shares.leased(1, {"1"})
    assert got.count("patient") == 4
    assert got[9] == got[19] == "patient"


def test_its_share_comes_with_the_same_call_when_its_service_is_next_anyway() -> None:
    shares = Shares()
    shares.leased(27, {"2"})
    assert choice(Service("a", "02", late={"2"}), shares=shares) == ("a", 4, "9", First("2", 3))


def test_two_late_tiers_get_a_share_each_and_their_services_take_turns() -> None:
    shares = Shares()
    shares.leased(9, {"1", "2"})
    services = [Service("a", "0"), Service("b", "1", served=7, late={"1"}), Service("c", "1", served=2, late={"1"})]
    services.append(Service("d", "2", late={"2"}))
    assert choice(*services, shares=shares) == ("c", 1, "", First("1", 1))
    shares.paid("1", 1)
    assert choice(*services, shares=shares) == ("d", 1, "", First("2", 1))


def test_what_was_owed_is_forgotten_when_the_tier_has_caught_up() -> None:
    shares = Shares()
    shares.leased(50, {"2"})
    shares.leased(1, set())
    assert shares.due("2") == 0


def test_the_best_tier_that_waits_needs_no_share() -> None:
    shares = Shares()
    shares.leased(90, {"1"})
    assert choice(Service("a", "1", late={"1"}), Service("b", "2"), shares=shares) == ("a", 4, "1", None)
