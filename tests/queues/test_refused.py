"""What Redis refuses amid a script: no job is lost, doubled or blamed for it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fourlane import codec
from fourlane.errors import RedisUnavailable
from fourlane.job import new_id
from fourlane.outcome import Back, Dead, Outcome, Postpone, Result, Retry
from fourlane.queues import relayed, taken
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.relayed import Relayed
from fourlane.queues.store import Delayed, Store
from fourlane.queues.taken import Accepting
from fourlane.queues.turn import Ask
from tests.queues.conftest import Hand
from tests.servers import Server, eventually

NOW = 1_764_000_000_000
BODY = codec.encode("send", [1])
CONCURRENCY_2 = '{"1":{"concurrency":2,"rate":5,"per_ms":60000}}'

OUTCOMES: dict[str, Outcome] = {
    "result": Result(b'"kept"', 60_000),
    "retry": Retry(60_000, b'{"attempts":1}', "boom"),
    "postpone": Postpone(60_000, b'{"attempts":0}'),
    "unknown": Postpone(0, b'{"unknown_since_ms":1}', "nobody"),
    "back": Back(),
    "dead": Dead("error", "boom", b'{"attempts":1}'),
    "dead with value": Dead("error", "boom", b'{"attempts":1}', b'{"error":"boom"}', 60_000),
}


# The server refuses every write ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("refusing")
    with Server(folder, aof=False, config={"dbfilename": "taken"}) as started:
        (folder / "taken").mkdir()
        yield started


@pytest.fixture
def own(server: Server) -> Iterator[Hand]:
    """On a server that may be made to refuse."""
    server.command("FLUSHALL")
    store = Store(Connector(client_of(server.url)), namespace="refused", environment="local")
    hand = Hand(store)
    yield hand
    hand.link.close()
    store.connector.close()


@contextmanager
def cannot_save(server: Server) -> Iterator[None]:
    """Its file cannot be written: a folder is in its place."""
    server.config("SET", "save", "900 1")
    server.command("BGSAVE")
    eventually(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err")
    try:
        yield
    finally:
        server.config("SET", "save", "")


def switch(on: tuple[str | int, ...], off: tuple[str | int, ...]) -> Callable[[Server], Any]:
    @contextmanager
    def switched(server: Server) -> Iterator[None]:
        server.command(*on)
        try:
            yield
        finally:
            server.command(*off)

    return switched


REFUSALS: dict[str, Callable[[Server], Any]] = {
    "READONLY": switch(("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE")),
    "NOREPLICAS": switch(("CONFIG", "SET", "min-replicas-to-write", 1), ("CONFIG", "SET", "min-replicas-to-write", 0)),
    "MISCONF": cannot_save,
    "OOM": switch(("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)),
    "can't": switch(("ACL", "SETUSER", "default", "-zadd", "-rpush"), ("ACL", "SETUSER", "default", "+@all")),
}


@pytest.mark.parametrize("outcome", ["result", "retry"])
@pytest.mark.parametrize("word", REFUSALS)
def test_a_server_that_refuses_all_is_no_fault_of_the_job(server: Server, own: Hand, word: str, outcome: str) -> None:
    own.enqueue()
    (leased,) = own.turn(1).jobs
    others = [(leased.entry, OUTCOMES[outcome])]
    with REFUSALS[word](server):
        refused = ""
        try:
            assert own.turn(ask=Ask(), others=others).faults == []
        except RedisUnavailable as error:
            refused = str(error)
        # Settling needs no memory; Redis 6.2 does not count replicas amid a script; the last is Valkey's word for it.
        assert word in refused or word in ("OOM", "NOREPLICAS") or "ACL" in refused
    again = own.turn(ask=Ask(), others=others)
    assert again.faults == []
    keys = own.store.service("mail")
    assert own.store.connector.client.exists(keys.dead[1], keys.reasons, keys.leased("w1")) == 0


# One key is of another type -------------------------------------------------------------------------------------------


def spoil(hand: Hand, key: bytes) -> None:
    hand.store.connector.client.delete(key)
    hand.store.connector.client.set(key, "x")


def mend(hand: Hand, key: bytes) -> None:
    hand.store.connector.client.delete(key)


def places(hand: Hand, service: str = "mail") -> list[str]:
    """Where a service's jobs lie: one place for each job."""
    keys, client = hand.store.service(service), hand.store.connector.client
    found: list[str] = []
    for tier in range(4):
        found += ["ready"] * client.llen(keys.ready[tier]) if client.type(keys.ready[tier]) != b"string" else []
        found += ["dead"] * client.zcard(keys.dead[tier]) if client.type(keys.dead[tier]) != b"string" else []
    found += ["delayed"] * client.zcard(keys.delayed) if client.type(keys.delayed) != b"string" else []
    return found


def bodies(hand: Hand) -> int:
    return int(hand.store.connector.client.hlen(hand.store.service("mail").jobs))


WRONG = ["cancels", "records", "reasons", "stats", "dead", "delayed", "news", "unknown", "ready", "wake", "crashes"]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("outcome", [name for name in OUTCOMES if name != "result"])
def test_an_end_that_is_refused_leaves_nothing_behind(hand: Hand, outcome: str, wrong: str) -> None:
    """What lies somewhere is settled, what is not lies nowhere: so it goes back, once, and leaves nothing behind."""
    hand.enqueue()
    (leased,) = hand.turn(1).jobs
    keys, client = hand.store.service("mail"), hand.store.connector.client
    key = getattr(keys, wrong)
    key = key[1] if isinstance(key, list) else key
    client.zadd(keys.cancels, {"other": 1})
    spoil(hand, key)
    turn = hand.turn(ask=Ask(), others=[(leased.entry, OUTCOMES[outcome])])
    mend(hand, key)
    if turn.faults:
        assert places(hand) == []
        assert client.exists(keys.result(leased.entry), keys.reasons, keys.records) == 0
        assert hand.turn(ask=Ask(), others=[(leased.entry, Back())]).faults == []
        assert places(hand) == ["ready"]
    else:
        assert len(places(hand)) == 1
    assert client.exists(keys.leased("w1")) == 0
    assert bodies(hand) == 1


def test_a_cancelled_job_whose_end_is_refused_is_cancelled_still(hand: Hand) -> None:
    hand.enqueue()
    (leased,) = hand.turn(1).jobs
    keys = hand.store.service("mail")
    hand.store.connector.client.zadd(keys.cancels, {leased.entry: 1})
    spoil(hand, keys.crashes)
    assert hand.turn(ask=Ask(), others=[(leased.entry, OUTCOMES["retry"])]).faults
    mend(hand, keys.crashes)
    assert hand.turn(ask=Ask(), others=[(leased.entry, Back())]).faults == []
    assert (bodies(hand), places(hand)) == (0, [])


@pytest.mark.parametrize("wrong", ["ready", "buckets", "slots", "leased"])
@pytest.mark.parametrize("control", ["", CONCURRENCY_2])
def test_a_turn_that_cannot_lease_puts_back_what_it_took(hand: Hand, wrong: str, control: str) -> None:
    keys, client = hand.store.service("mail"), hand.store.connector.client
    for tier in (0, 1):
        hand.enqueue(3, tier=tier)
    if control:
        client.hset(keys.jobs, "!", control.replace('"1"', '"0"', 1)[:-1] + "," + control[1:])
    before = client.lrange(keys.ready[0], 0, -1)
    key = {"leased": keys.leased("w1"), "buckets": keys.buckets, "ready": keys.ready[1], "slots": keys.slots[1]}[wrong]
    spoil(hand, key)
    leased = 0
    if wrong in ("buckets", "slots") and not control:
        leased = len(hand.turn(8, ask=Ask(control=True)).jobs)
    else:
        with pytest.raises(RedisUnavailable, match=re.escape(key.decode())):
            hand.turn(8, ask=Ask(control=True))
        assert client.lrange(keys.ready[0], 0, -1) == before
        assert client.exists(keys.slots[0]) == 0
    mend(hand, key)
    client.hdel(keys.jobs, "!")
    left = 3 if wrong == "ready" else 6
    assert len(hand.turn(8, ask=Ask(), held=leased).jobs) + leased == left


@pytest.mark.parametrize("wrong", range(4))
def test_jobs_that_are_due_move_once_though_another_tier_is_refused(hand: Hand, wrong: int) -> None:
    keys, client = hand.store.service("mail"), hand.store.connector.client
    for tier in range(4):
        hand.delay(-1, tier=tier)
    spoil(hand, keys.ready[wrong])
    for _ in range(3):
        with pytest.raises(RedisUnavailable, match=f"ready:{wrong} is not a list"):
            hand.turn()
    mend(hand, keys.ready[wrong])
    assert sorted(places(hand)) == ["delayed", "ready", "ready", "ready"]
    hand.turn()
    assert [client.llen(key) for key in keys.ready] == [1, 1, 1, 1]


# Accepting ------------------------------------------------------------------------------------------------------------

FIRST, SECOND, LATER, HIGH = (new_id(1, NOW), new_id(1, NOW + 1), new_id(1, NOW + 2), new_id(0, NOW + 3))


def relay(store: Store) -> None:
    relayed.relay(
        store,
        "mail",
        [Relayed(FIRST, FIRST, None, BODY), Relayed(HIGH, HIGH, None, BODY), Relayed(LATER, LATER, 9 * NOW, BODY)],
        not_after_ms=9 * NOW,
        remember_ms=60_000,
        confirmed=[],
        remember_confirmed_ms=1_000,
    )


def accept(store: Store) -> None:
    taken.accept(store, "mail", 1, [Accepting(FIRST, BODY), Accepting(SECOND, BODY), Accepting(LATER, BODY, 9 * NOW)])


def lone(store: Store) -> None:
    store.enqueue("mail", 1, (FIRST, BODY))


ACCEPTING: dict[str, tuple[Callable[[Store], object], list[str], list[str]]] = {
    "enqueue": (lone, ["ready", "wake"], ["ready"]),
    "enqueue several": (
        lambda store: store.enqueue("mail", 1, (FIRST, BODY, SECOND, BODY)),
        ["ready", "wake"],
        ["ready"] * 2,
    ),
    "enqueue marked": (
        lambda store: store.enqueue("mail", 1, (f"{FIRST}|t1", BODY, SECOND, BODY)),
        ["ready", "wake"],
        ["ready"] * 2,
    ),
    "enqueue_once": (
        lambda store: store.enqueue_once("mail", 1, FIRST, BODY, key="k", ttl_ms=60_000),
        ["ready", "wake"],
        ["ready"],
    ),
    "delay": (lambda store: store.delay("mail", [Delayed(FIRST, BODY, 60_000)]), ["delayed", "news"], ["delayed"]),
    "accept": (accept, ["ready", "wake", "delayed", "news", "taken"], ["ready"] * 2 + ["delayed"]),
    "relay": (relay, ["ready", "wake", "delayed", "news", "relayed"], ["ready"] * 2 + ["delayed"]),
}


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name, (_, wrongs, _) in ACCEPTING.items() for wrong in wrongs]
)
def test_what_is_refused_is_not_accepted(hand: Hand, name: str, wrong: str, first: bool) -> None:
    """The same call again says so too, until it can be done."""
    give, _, expected = ACCEPTING[name]
    keys = hand.store.service("mail")
    if not first:  # a link's later calls go another way
        for number in range(3):
            hand.store.enqueue("other", 3, (new_id(3, NOW + number), BODY))
    key = keys.taken(int(time.time() * 1000) // 86_400_000)[0] if wrong == "taken" else getattr(keys, wrong)
    key = key[1] if isinstance(key, list) else key
    spoil(hand, key)
    for _ in range(2):
        with pytest.raises(RedisUnavailable, match="WRONGTYPE"):
            give(hand.store)
        assert (bodies(hand), places(hand)) == (0, [])
    mend(hand, key)
    give(hand.store)
    assert sorted(places(hand)) == sorted(expected)
    assert bodies(hand) == len(expected)
