"""Jobs of tasks that a worker does not know: their pauses, what is told of them, and whom they wait for."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from fourlane import codec, job
from fourlane.outcome import Postpone
from fourlane.queues import browse
from fourlane.queues.records import write_record
from fourlane.queues.store import Delayed, Store
from fourlane.queues.turn import Ask
from fourlane.worker.run.unknown import Promotion, pause_ms, unknown_tasks
from tests.queues.conftest import Hand
from tests.queues.conftest import hand as hand
from tests.queues.conftest import store as store


@pytest.mark.parametrize(
    ("unknown_ms", "tries", "pause"),
    [
        (0, 1, 0),
        (0, 3, 0),
        (0, 4, 500),
        (900, 4, 500),
        (1_500, 8, 750),
        (1_500, 9, 0),
        (4_000, 12, 2_000),
        (60_000, 40, 30_000),
        (23 * 3_600_000, 400, 30_000),
        (-5_000, 4, 500),  # another worker's clock is ahead
    ],
)
def test_some_try_at_once_and_the_pause_grows_with_the_time(unknown_ms: int, tries: int, pause: int) -> None:
    assert pause_ms(unknown_ms, tries) == pause


def park(hand: Hand, task: str, pause: int, since_ms: int) -> str:
    [sent] = hand.enqueue(task=task)
    [leased] = hand.turn(1, ask=Ask(beat=True)).jobs
    record = write_record(job.Record(unknown_since_ms=since_ms))
    hand.turn(others=[(leased.entry, Postpone(pause, record, task))], ask=Ask(beat=True))
    return sent


def due_in(store: Store, entry: str) -> float:
    keys = store.service("mail")
    score = store.connector.command(keys.delayed, "ZSCORE", keys.delayed, entry)
    return float(score) - browse.now_ms(store)


def promotion(store: Store, *tasks: str, tiers: str = "0123") -> Callable[[int], int]:
    """Takes up to so many."""
    made = Promotion(store, "mail", tiers, tasks)
    link = store.connector.open(store.service("mail").jobs)
    return lambda most: made.take(link, most, 0.0) if made.at < math.inf else -1


def test_a_worker_that_begins_takes_what_it_knows(store: Store, hand: Hand) -> None:
    long_ago = browse.now_ms(store) - 120_000
    ours = {park(hand, "new", 29_000, long_ago) for _ in range(450)}
    other = park(hand, "other", 29_000, long_ago)
    retried = hand.delay(10_000)
    store.delay("mail", [Delayed(later := job.new_id(1, long_ago), codec.encode("new"), 10_000)])
    assert unknown_tasks(store, "mail", {"unheard-of"}) == []
    assert unknown_tasks(store, "mail", {"new", "send"}) == ["new"]
    assert promotion(store, "new", tiers="0")(10) == 0  # another worker's
    take = promotion(store, "new")
    taken: set[str] = set()
    while (found := take(40)) > 0 or len(taken) < 450:
        assert found <= 40
        turn = hand.turn(40)
        taken |= {job.id_of_entry(leased.entry) for leased in turn.jobs}
    assert taken == ours
    assert due_in(store, f"{other}|r") > 20_000
    assert due_in(store, retried) > 5_000  # delayed by its sender, not for want of somebody who knows it
    assert due_in(store, later) > 5_000
    assert {task.name for task in browse.unknown_tasks(store)} == {"new", "other"}


def test_it_looks_again_for_those_that_others_still_had_and_then_no_more(store: Store, hand: Hand) -> None:
    long_ago = browse.now_ms(store) - 120_000
    park(hand, "new", 29_000, long_ago)
    take = promotion(store, "new")
    found = [take(10)]
    park(hand, "new", 29_000, long_ago)
    for _ in range(9):
        found.append(take(10))
    assert found == [1, 1, 0, 0, 0, 0, 0, -1, -1, -1]


def test_from_then_on_its_pauses_are_short(store: Store, hand: Hand) -> None:
    """Old workers of the same deploy take some of these jobs once more."""
    long_ago = browse.now_ms(store) - 120_000
    park(hand, "new", 30_000, long_ago)
    promotion(store, "new")(10)
    hand.turn(10)
    again = park(hand, "new", 30_000, long_ago)
    assert due_in(store, f"{again}|r") <= 1_000
    other = park(hand, "other", 30_000, long_ago)
    assert due_in(store, f"{other}|r") > 20_000
