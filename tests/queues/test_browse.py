from __future__ import annotations

import msgspec
import pytest

from fourlane.errors import InvalidName, JobNotFound
from fourlane.job import State, message_id_of
from fourlane.names import Tier
from fourlane.outcome import Postpone, Result
from fourlane.queues import browse, control
from fourlane.queues.store import Store
from tests.queues.conftest import Hand


def test_counts_of_every_queue(store: Store, hand: Hand) -> None:
    hand.kill(2, tier=1)
    hand.enqueue(3, tier=0)
    hand.turn(1)
    hand.delay(60_000, tier=2)
    hand.enqueue(1, service="bills", tier=3)
    control.pause(store, "jobs.high.mail")

    mail = next(s for s in browse.services(store) if s.name == "mail")
    assert (mail.running, mail.delayed, mail.workers) == (1, 1, 1)
    assert mail.next_due_in_ms is not None
    assert 50_000 < mail.next_due_in_ms <= 60_000

    queues = {q.name: q for q in browse.queues(store)}
    assert len(queues) == 8
    high = queues["local.jobs.high.mail"]
    assert (high.service, high.tier, high.ready, high.dead, high.paused) == ("mail", Tier.P0, 2, 0, True)
    assert high.oldest_age_ms is not None
    assert high.oldest_age_ms < 10_000
    assert queues["local.jobs.normal.mail"].dead == 2
    assert queues["local.jobs.normal.mail"].oldest_age_ms is None
    assert queues["local.jobs.scheduled.bills"].ready == 1


def test_cancelled_jobs_do_not_count_as_ready(store: Store, hand: Hand) -> None:
    first, _ = hand.enqueue(2)
    control.cancel(store, first)
    assert next(q for q in browse.queues(store) if q.tier is Tier.P1).ready == 1


def test_nothing_is_nothing(store: Store) -> None:
    assert browse.queues(store) == []
    assert browse.workers(store) == []
    assert browse.unknown_tasks(store) == []
    with pytest.raises(JobNotFound):
        browse.job(store, "nope")


def test_a_job_in_each_state(store: Store, hand: Hand) -> None:
    [dead] = hand.kill()
    [running] = hand.enqueue()
    hand.turn(1, name="w7")
    [ready] = hand.enqueue()
    delayed = hand.delay()
    [cancelled] = hand.enqueue()
    control.cancel(store, cancelled)

    states = {i: browse.job(store, i).state for i in (dead, running, ready, delayed, cancelled)}
    assert states == {
        dead: State.DEAD,
        running: State.RUNNING,
        ready: State.READY,
        delayed: State.DELAYED,
        cancelled: State.CANCELLED,
    }
    info = browse.job(store, dead)
    assert (info.reason, info.detail, info.attempts) == ("error", "boom", 1)
    assert info.errors[0].error == "ValueError: boom"
    assert (info.task, info.args, info.kwargs) == ("send", [0], {"to": "x"})
    assert info.died_at_ms is not None
    assert info.due_at_ms is None
    assert browse.job(store, running).worker == "w7"
    assert browse.job(store, delayed).due_at_ms is not None
    assert browse.job(store, ready).queue == "local.jobs.normal.mail"


def test_a_done_job_is_known_while_its_result_is_kept(store: Store, hand: Hand) -> None:
    [kept] = hand.enqueue()
    [leased] = hand.turn(1).jobs
    hand.turn(others=[(leased.entry, Result(b"5", 60_000))])
    [lost] = hand.enqueue()
    hand.turn(done=[hand.turn(1).jobs[0].entry])

    assert browse.job(store, kept).state is State.DONE
    with pytest.raises(JobNotFound):
        browse.job(store, lost)


@pytest.mark.parametrize("tier", range(4))
def test_an_id_chosen_elsewhere_is_found_in_any_tier_and_service(store: Store, hand: Hand, tier: int) -> None:
    hand.enqueue(service="alpha")
    stored = hand.enqueue_foreign("6ba7b810-9dad-11d1", service="mail", tier=tier)
    for known_as in ("6ba7b810-9dad-11d1", stored):
        info = browse.job(store, known_as)
        assert (info.id, info.queue) == (message_id_of(stored), f"local.jobs.{Tier(tier).word}.mail")
        assert info.enqueued_at_ms == 1_000


def test_the_queue_narrows_the_search(store: Store, hand: Hand) -> None:
    hand.enqueue_foreign("same", service="alpha", tier=0)
    hand.enqueue_foreign("same", service="mail", tier=2)
    assert browse.job(store, "same", "jobs.low.mail").queue == "local.jobs.low.mail"
    with pytest.raises(JobNotFound, match=r"jobs\.high\.mail"):
        browse.job(store, "same", "jobs.high.mail")
    with pytest.raises(InvalidName):
        browse.job(store, "same", "staging.jobs.low.mail")


@pytest.mark.parametrize("strange", ["", "!", "a|b", "x" * 500, "\n", "9.x", "é"])
def test_strange_ids_are_not_found(store: Store, hand: Hand, strange: str) -> None:
    hand.enqueue()
    control.pause(store, "mail")
    with pytest.raises(JobNotFound):
        browse.job(store, strange)


def test_a_body_that_cannot_be_read_is_told(store: Store, hand: Hand) -> None:
    [job_id] = hand.enqueue()
    key = store.service("mail").jobs
    store.connector.command(key, "HSET", key, job_id, b"\xff{")
    info = browse.job(store, job_id)
    assert info.task == ""
    assert "cannot be read" in info.detail


def test_workers_are_lost_and_then_forgotten(store: Store) -> None:
    now, key = browse.now_ms(store), store.keys.presence
    said = {
        "host": "h",
        "pid": 7,
        "queues": ["q"],
        "slots": 8,
        "names": {"mail": "w1"},
        "held": 3,
        "version": "0.1",
        "of a later version": True,
    }
    for name, age in (("here", 1_000), ("lost", 100_000), ("gone", 700_000)):
        store.connector.command(key, "HSET", key, name, msgspec.json.encode(said | {"seen_ms": now - age}))
    store.connector.command(key, "HSET", key, "garbage", b"{")

    here, lost = browse.workers(store)
    assert (here.name, here.lost, here.names, here.held) == ("here", False, {"mail": "w1"}, 3)
    assert (lost.name, lost.lost) == ("lost", True)
    assert store.connector.command(key, "HLEN", key) == 2


def test_unknown_tasks(store: Store, hand: Hand) -> None:
    hand.enqueue()
    [leased] = hand.turn(1).jobs
    hand.turn(others=[(leased.entry, Postpone(1_000, b"", "nobody.knows"))])
    [task] = browse.unknown_tasks(store)
    assert (task.service, task.name) == ("mail", "nobody.knows")
    assert abs(task.seen_ms - browse.now_ms(store)) < 10_000
