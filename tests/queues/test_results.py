"""Results, for all who wait for one."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import msgspec

from fourlane.outcome import WAITERS_MS, Result
from fourlane.queues import ended
from fourlane.queues.results import Results
from fourlane.queues.store import Store
from tests.queues.conftest import Hand
from tests.servers import eventually


def test_all_who_wait_hear_of_it(store: Store, hand: Hand) -> None:
    results, client = Results(store), store.connector.client
    [job_id] = hand.enqueue()
    [leased] = hand.turn(1).jobs
    assert results.look("mail", job_id) is None
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(results.wait, "mail", job_id, 4.0) for _ in range(3)]
        eventually(lambda: client.info("clients")["blocked_clients"] >= 3)
        hand.turn(others=[(leased.entry, Result(b"7", 60_000))])
        assert [each.result() for each in waiting] == [b"7"] * 3
    assert results.wait("mail", job_id, 4.0) == results.look("mail", job_id) == b"7"


def test_nobody_waits_longer_than_he_said(store: Store) -> None:
    began = time.monotonic()
    assert [Results(store).wait("mail", "1a", seconds) for seconds in (-1.0, 0.0, 0.01)] == [None] * 3
    assert time.monotonic() - began < 10


def test_an_end_without_a_result(store: Store) -> None:
    results = Results(store)
    for cancelled in (False, True):
        results.tell_end("mail", "1a", ended.for_waiters("boom", cancelled=cancelled))
        told = results.look("mail", "1a")
        assert not ended.is_done(told)
        assert msgspec.json.decode(told or b"") == {"error": "boom"} | ({"cancelled": True} if cancelled else {})
    assert 0 < store.connector.client.pttl(store.service("mail").result("1a")) <= WAITERS_MS
