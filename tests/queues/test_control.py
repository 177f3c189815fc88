from __future__ import annotations

import threading
import time
from typing import Any

import msgspec
import pytest

from fourlane.errors import InvalidName, JobNotFound, SettingsError
from fourlane.job import State
from fourlane.outcome import Retry
from fourlane.queues import browse, control
from fourlane.queues.beat import SILENCE_MS
from fourlane.queues.broker import RedisBroker
from fourlane.queues.limit import Limit
from fourlane.queues.store import Store
from fourlane.queues.turn import Ask
from tests.queues.conftest import Hand

QUEUE = "local.jobs.normal.mail"


def text(store: Store) -> Any:
    key = store.service("mail").jobs
    written = store.connector.command(key, "HGET", key, "!")
    return None if written is None else msgspec.json.decode(written)


def test_a_pause_holds_a_queue_and_no_other(store: Store, hand: Hand) -> None:
    [held] = hand.enqueue(tier=1)
    [other] = hand.enqueue(tier=2)
    assert control.pause(store, QUEUE)
    assert not control.pause(store, QUEUE)
    assert text(store) == {"1": {"paused": True}}
    assert [j.entry for j in hand.turn(10).jobs] == [other]

    assert control.resume(store, "mail")
    assert not control.resume(store, "mail")
    assert text(store) is None
    assert [j.entry for j in hand.turn(10).jobs] == [held]


def test_a_queue_may_be_paused_before_its_first_job(store: Store, hand: Hand) -> None:
    control.pause(store, QUEUE)
    assert control.limits(store) == {QUEUE: Limit(paused=True)}
    hand.enqueue()
    assert hand.turn(10).jobs == []


def test_resuming_what_never_was_leaves_nothing(store: Store) -> None:
    assert not control.resume(store, QUEUE)
    assert not control.clear(store, QUEUE)
    assert store.services() == []


def test_limits_are_merged_cleared_and_kept_apart_from_the_pause(store: Store) -> None:
    control.set_limit(store, QUEUE, rate=10)
    control.pause(store, QUEUE)
    limit = control.set_limit(store, QUEUE, concurrency=5, source="settings")
    assert limit == Limit(True, 10, 1_000, None, 5, "settings")
    assert text(store) == {"1": {"paused": True, "rate": 10, "per_ms": 1_000, "concurrency": 5, "source": "settings"}}
    assert control.clear(store, QUEUE)
    assert not control.clear(store, QUEUE)
    assert text(store) == {"1": {"paused": True}}


@pytest.mark.parametrize(
    "figures",
    [{}, {"rate": 0}, {"concurrency": -1}, {"burst": 5}, {"per_ms": 100, "concurrency": 1}],
)
def test_limits_that_mean_nothing_are_refused(store: Store, figures: dict[str, int]) -> None:
    with pytest.raises(SettingsError):
        control.set_limit(store, QUEUE, **figures)
    assert text(store) is None


def test_a_wrong_queue_is_refused(store: Store) -> None:
    with pytest.raises(InvalidName):
        control.pause(store, "production.jobs.high.mail")


def test_the_rate_and_the_burst_hold(store: Store, hand: Hand) -> None:
    hand.enqueue(50)
    control.set_limit(store, QUEUE, rate=1, per_ms=60_000, burst=7)
    assert len(hand.turn(50).jobs) == 7
    assert hand.turn(50).jobs == []


def test_the_concurrency_counts_what_ran_before_it_was_set(store: Store, hand: Hand) -> None:
    hand.enqueue(10)
    running = hand.turn(3).jobs
    control.set_limit(store, QUEUE, concurrency=4)
    assert len(hand.turn(10, held=3).jobs) == 1
    assert hand.turn(10, held=4, done=[running[0].entry, running[1].entry]).jobs != []


def test_rewriting_counts_what_was_leased_without_knowing_of_the_limit(store: Store, hand: Hand) -> None:
    hand.enqueue(10)
    control.set_limit(store, QUEUE, concurrency=4)
    keys = store.service("mail")
    hand.turn(3)
    store.connector.command(keys.jobs, "DEL", keys.slots[1])
    control.rewrite(store, "mail")
    assert store.connector.command(keys.jobs, "SCARD", keys.slots[1]) == 3
    control.rewrite(store, "nobody")  # nothing to do


def test_operators_at_once_lose_nothing(store: Store) -> None:
    tiers = ["high", "normal", "low", "scheduled"]
    threads = [
        threading.Thread(target=control.set_limit, args=(store, f"jobs.{tier}.mail"), kwargs={"rate": rate})
        for rate in (1, 2)
        for tier in tiers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(text(store)) == ["0", "1", "2", "3"]


def test_cancelling_in_each_state(store: Store, hand: Hand) -> None:
    [dead] = hand.kill()
    hand.enqueue()
    [leased] = hand.turn(1).jobs
    [ready] = hand.enqueue()
    delayed = hand.delay()

    assert control.cancel(store, dead) is State.DEAD
    assert control.cancel(store, leased.entry) is State.RUNNING
    assert control.cancel(store, delayed) is State.DELAYED
    assert control.cancel(store, ready) is State.READY
    assert control.cancel(store, ready) is State.CANCELLED
    assert control.cancel(store, "nope") is State.UNKNOWN
    assert control.cancel(store, "!") is State.UNKNOWN

    hand.turn(held=0, others=[(leased.entry, Retry(0, b"{}", "boom"))])
    assert hand.turn(10).jobs == []
    for gone in (dead, delayed, ready, leased.entry):
        with pytest.raises(JobNotFound):
            browse.job(store, gone)


def test_a_worker_that_came_meanwhile_is_not_overlooked(store: Store, hand: Hand) -> None:
    """The script refuses names that are not all: its caller reads them again."""
    hand.enqueue()
    [leased] = hand.turn(1, name="new").jobs
    keys = store.service("mail")
    assert store.connector.run_once("cancel", keys.all, (leased.entry, ""), keys.sent) == [b"again"]
    assert store.connector.run("control", keys.all, ("", '{"1":{"paused":true}}')) == 0
    assert control.cancel(store, leased.entry) is State.RUNNING


def test_purge_drops_the_ready_and_the_delayed_of_one_tier(store: Store, hand: Hand) -> None:
    hand.kill(1, tier=1)
    hand.enqueue(2_500, tier=1)
    for _ in range(5):
        hand.delay(tier=2)
        hand.delay(tier=1)
    [other] = hand.enqueue(tier=2)
    running = hand.turn(1, ask=Ask(beat=True)).jobs
    assert control.purge(store, QUEUE) == 2_504
    assert control.purge(store, QUEUE) == 0

    queues = {int(q.tier): q for q in browse.queues(store)}
    assert (queues[1].ready, queues[1].dead, queues[2].ready) == (0, 1, 1)
    assert browse.services(store)[0].delayed == 5
    assert browse.job(store, running[0].entry).state is State.RUNNING
    assert browse.job(store, other).state is State.READY


def test_every_cancelled_job_is_told_however_many_marks_there_are(broker: RedisBroker) -> None:
    store, keys = broker.store, broker.store.service("default")
    now = int(time.time() * 1000)

    def mark(ids: list[str], at_ms: int) -> None:
        broker.client.hset(keys.jobs, mapping=dict.fromkeys(ids, '["t"]'))
        broker.client.zadd(keys.cancels, dict.fromkeys(ids, at_ms))

    mark([f"1old{n}" for n in range(2_500)], now - 600_000)
    link = store.connector.open(keys.workers)
    told = store.beat(link, "default", ["me.0"], SILENCE_MS)
    assert len(told.cancelled) == 2_500  # who begins hears of all
    mark(["1new"], now)
    later = store.beat(link, "default", ["me.0"], SILENCE_MS, told.since_ms)
    assert later.cancelled == ["1new"]
    mark([f"1many{n}" for n in range(1_200)], now)
    assert len(store.beat(link, "default", ["me.0"], SILENCE_MS, told.since_ms).cancelled) == 1_201
    # Those that ended before are forgotten.
    broker.client.hdel(keys.jobs, *[f"1many{n}" for n in range(1_200)])
    assert store.beat(link, "default", ["me.0"], SILENCE_MS, told.since_ms).cancelled == ["1new"]
    assert broker.client.zcard(keys.cancels) == 2_501
