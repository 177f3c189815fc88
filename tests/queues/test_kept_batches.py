"""Requests that wait for a batch, from the first call to the last, on each server."""

from __future__ import annotations

import pytest

from fourlane.job import new_id
from fourlane.queues.control import hasten
from fourlane.queues.guards import Batches
from fourlane.queues.redis.connector import Connector
from fourlane.queues.store import Delayed, Store


def _whole_life(store: Store) -> None:
    batches = Batches(store, "openai")
    for number in range(5):
        assert batches.add("m:1", f"t{number}", b"whose", b"{%d}" % number) == "added"
    assert batches.add("m:1", "t0", b"other", b"{}") == "known"
    assert batches.collections() == ["m:1"]
    assert batches.waiting("m:1")[0] == 5
    assert batches.withdraw("m:1", ["t4", "none"]) == 1
    moved, size, full = batches.gather("m:1", "b", most=3, most_bytes=100)
    assert (moved, size, full) == (["t0", "t1", "t2"], 9, False)
    assert batches.withdraw("m:1", ["t0"]) == 0  # it waits no more
    assert batches.withdraw("m:1", ["t0"], "b") == 1
    assert batches.gather("m:1", "b", most=3, most_bytes=2) == ([], 0, True)
    assert batches.bodies("m:1", ["t0", "t1"]) == [None, b"{1}"]
    batches.sent("m:1", ["t1", "t2"])
    assert batches.bodies("m:1", ["t1", "t2", "t3"]) == [None, None, b"{3}"]
    answers = [("t1", "answer", b"yes"), ("t0", "again", b""), ("strange", "answer", b"no")]
    assert batches.answer("b", answers) == [b"whose", None, None]
    batches.answer("b", [("t1", "again", b"")])
    found = batches.look("t1")
    assert found is not None
    assert (found.word, found.answer) == ("answer", b"yes")
    batches.forget("t1")
    assert batches.answer("b", [("t1", "answer", b"yes")]) == [b""]
    batches.done_with("b", ["t1"])
    assert [list(some) for some in batches.members("b")] == [["t2"]]
    batches.keep("b", b"{}")
    assert batches.open() == {"b": b"{}"}
    batches.over("b")
    assert not batches.open()


def _hastened(store: Store) -> None:
    ids = [new_id(2, 1_000_000) for _ in range(3)]
    store.delay("x", [Delayed(ids[0], b'["t"]', 900_000)])
    store.enqueue("x", 2, (ids[1], b'["t"]'))
    assert hasten(store, "x", ids) == ["due", "busy", "over"]
    keys = store.service("x")
    assert store.connector.command(keys.delayed, "ZSCORE", keys.delayed, ids[0]) is not None


def test_a_request_goes_its_way_once(store: Store) -> None:
    _whole_life(store)


def test_delayed_jobs_become_due(store: Store) -> None:
    _hastened(store)


@pytest.mark.cluster
def test_on_a_cluster(cluster_urls: list[str], namespace: str) -> None:
    from redis.cluster import RedisCluster

    store = Store(Connector(RedisCluster.from_url(cluster_urls[0])), namespace=namespace)
    _whole_life(store)
    _hastened(store)
