"""Budgets in Redis: nothing is spent beyond one, nothing is booked twice, nothing is held for the dead."""

from __future__ import annotations

import random
import threading
import time

import pytest

from fourlane.queues.guards import ALL, Asked, Bound, Budgets, PaidCall
from fourlane.queues.store import Store
from tests.queues.conftest import Hand

DAY, MONTH = "2026-11-28", "2026-11"
NOW_MS = 1_800_000_000_000


def call(number: int, tenant: str = "acme", **more: object) -> PaidCall:
    return PaidCall(f"call-{number}", tenant, DAY, "t", "p/m", **more)  # type: ignore[arg-type]


@pytest.fixture
def budgets(store: Store) -> Budgets:
    return Budgets(store)


OF_TENANT, OF_TASK, OF_ALL = Bound(0, "", 100, 80), Bound(2, "task:t", 150, 120), Bound(3, "", 170, 136)


def test_a_call_is_reserved_in_all_its_budgets_or_in_none(budgets: Budgets) -> None:
    bounds = [OF_TENANT, OF_TASK, OF_ALL]
    assert budgets.reserve(call(1), 70, bounds) == Asked(None, 0, ())
    assert budgets.reserve(call(2), 40, bounds) == Asked(0, 70, ())  # of the tenant
    assert budgets.reserve(call(3, "other"), 70, bounds) == Asked(None, 0, ((1, 140), (2, 140)))
    assert budgets.reserve(call(4, "third"), 20, bounds) == Asked(1, 140, ())  # of the task
    assert budgets.reserve(call(5, "third"), 40, [OF_TENANT, OF_ALL]) == Asked(1, 140, ())  # of the day
    assert budgets.look("third", MONTH).held == {}
    assert budgets.look(ALL, MONTH).held == {"task:t": 140}
    assert budgets.look(ALL, DAY).held == {"": 140}


@pytest.mark.parametrize("cost", [0, 1, 70, 10_000_000_000_000_000])
def test_a_call_is_booked_once_in_all_accounts(budgets: Budgets, cost: int) -> None:
    budgets.reserve(call(1), 0 if cost == 0 else 70, [OF_TENANT])
    assert budgets.settle(call(1), cost)
    assert not budgets.settle(call(1), cost)
    for tenant in ("acme", ALL):
        for period in (DAY, MONTH):
            account = budgets.look(tenant, period)
            assert (account.spent, account.calls, account.held.get("", 0)) == (cost, 1, 0)
            assert account.of == (dict.fromkeys(call(1).counted, cost) if cost else {})


def test_a_call_that_was_not_made_is_no_call(budgets: Budgets) -> None:
    budgets.reserve(call(1), 70, [OF_TENANT])
    assert budgets.settle(call(1), 0, made=False)
    assert (budgets.look("acme", MONTH).calls, budgets.look("acme", MONTH).held) == (0, {"": 0})


def test_a_reservation_replaces_that_of_an_earlier_attempt(budgets: Budgets) -> None:
    budgets.reserve(call(1), 70, [OF_TENANT, OF_TASK])
    assert budgets.reserve(call(1), 90, [OF_TENANT]).over is None
    assert budgets.look("acme", MONTH).held == {"": 90}
    assert budgets.look(ALL, MONTH).held == {"task:t": 0}


def test_operators_are_warned_once(budgets: Budgets) -> None:
    assert budgets.reserve(call(1), 85, [OF_TENANT]).warned == ((0, 85),)
    budgets.settle(call(1), 10)
    assert budgets.reserve(call(2), 75, [OF_TENANT]).warned == ()
    raised = OF_TENANT._replace(most=200, warn=90)
    assert budgets.reserve(call(3), 10, [raised]).warned == ((0, 95),)


def test_a_refusal_is_shown_for_a_while(budgets: Budgets) -> None:
    budgets.reserve(call(1), 101, [OF_TENANT])
    assert budgets.look("acme", MONTH).refusing == {}
    budgets.reserve(call(1), 101, [OF_TENANT], refusing_ms=60_000)
    until = budgets.look("acme", MONTH).refusing[""]
    assert abs(until - 60_000 - time.time() * 1000) < 20_000


def test_workers_at_the_border_never_reserve_more(store: Store, budgets: Budgets) -> None:
    """Two tenants and all of them together: eight threads that reserve, settle and fail."""
    bounds = [Bound(0, "", 60, 48), Bound(2, "", 100, 80)]
    seen: list[int] = []

    def work(who: int) -> None:
        mine, chance = Budgets(store), random.Random(who)
        for turn in range(40):
            one = call(who * 1_000 + turn, f"tenant{who % 2}")
            if mine.reserve(one, 7, bounds).over is None:
                account = mine.look(ALL, MONTH)
                seen.append(account.used(""))
                mine.settle(one, chance.choice((0, 0, 0, 1, 7)))

    threads = [threading.Thread(target=work, args=(who,)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    both = [budgets.look(f"tenant{number}", MONTH).spent for number in (0, 1)]
    whole = budgets.look(ALL, MONTH)
    assert max(seen) <= 100
    assert whole.spent == sum(both) <= 100
    assert max(both) <= 60
    assert whole.held == {"": 0}
    assert list(budgets.reservations()) == []


def test_what_a_dead_job_holds_is_given_back(budgets: Budgets, hand: Hand, store: Store) -> None:
    alive, gone = hand.enqueue(2)
    for number, job in enumerate((alive, gone)):
        budgets.reserve(call(number, service="mail", job=job), 40, [OF_TENANT])
    assert budgets.sweep(NOW_MS) == 0
    keys = store.service("mail")
    store.connector.command(keys.dead[1], "ZADD", keys.dead[1], 1, gone)
    assert budgets.sweep(NOW_MS) == 1
    assert budgets.look("acme", MONTH).held == {"": 40}
    assert budgets.sweep(NOW_MS) == 0  # once
    # It is replayed behind its paid step, or ended after all: booked.
    assert budgets.settle(call(1), 30)
    assert (budgets.look("acme", MONTH).spent, budgets.look("acme", MONTH).held) == (30, {"": 40})


def test_what_a_lost_call_of_no_job_holds_is_given_back_after_its_time(budgets: Budgets) -> None:
    budgets.reserve(call(1, until_ms=NOW_MS), 40, [OF_TENANT])
    assert budgets.sweep(NOW_MS) == 0
    assert budgets.sweep(NOW_MS + 1) == 1
    assert budgets.look("acme", MONTH).held == {"": 0}
    budgets.sweep(NOW_MS + 31 * 86_400_000)
    assert list(budgets.reservations()) == []  # nothing grows


def test_a_row_is_kept_until_it_is_written(budgets: Budgets) -> None:
    budgets.reserve(call(1), 40, [])
    budgets.settle(call(1), 40, row="r1", kept=b"text")
    assert budgets.unwritten() == {"r1": b"text"}
    budgets.written("r1")
    assert budgets.unwritten() == {}


def test_what_workers_of_an_earlier_release_spent_counts(store: Store, budgets: Budgets) -> None:
    before = store.keys.spent_before("acme", MONTH)
    store.connector.command(before, "HSET", before, "spent", 50, "reserved", 10)  # millionths
    bound = Bound(0, "", 100_000, 100_000)
    assert budgets.reserve(call(1), 40_001, [bound]) == Asked(0, 60_000, ())
    assert budgets.reserve(call(1), 40_000, [bound]).over is None
    assert budgets.look("acme", MONTH).spent == 60_000
    assert budgets.reserve(call(2, "other"), 90_000, [bound]).over is None
