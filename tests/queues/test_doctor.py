from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from fourlane.errors import RedisUnavailable
from fourlane.outcome import Postpone, Result
from fourlane.queues import browse
from fourlane.queues.doctor import Finding, Level, examine, keyspace, server
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Store
from tests.conftest import StartServer
from tests.queues.conftest import Hand
from tests.servers import Server


@contextmanager
def opened(url: str, **options: int) -> Iterator[Store]:
    store = Store(Connector(client_of(url)), **options)  # type: ignore[arg-type]
    try:
        yield store
    finally:
        store.connector.close()


def look(store: Store) -> dict[str, Finding]:
    findings = examine(store, workers=browse.workers(store))
    by_name = {finding.name: finding for finding in findings}
    assert len(by_name) == len(findings)
    return by_name


def test_a_healthy_server_has_nothing_to_say(redis_server: Server) -> None:
    with opened(redis_server.url) as store:
        hand = Hand(store)
        hand.kill()
        hand.enqueue(3)
        hand.delay()
        [leased] = hand.turn(1).jobs
        hand.turn(others=[(leased.entry, Result(b"1", 60_000))])
        hand.turn(1)
        hand.link.close()
        found = look(store)
    assert {f.level for f in found.values()} == {Level.OK}, found
    assert found["persistence"].text == "append-only file"


def test_a_server_that_may_lose_jobs(start_server: StartServer) -> None:
    server = start_server(aof=False, config={"maxmemory-policy": "allkeys-lru"}, maxmemory="3mb")
    with opened(server.url) as store:
        found = look(store)
        assert found["persistence"].level is Level.WARN
        assert found["eviction"].level is Level.ERROR
        assert "allkeys-lru" in found["eviction"].text
        server.config("SET", "save", "60 1")
        assert "snapshots only" in look(store)["persistence"].text
        server.config("SET", "maxmemory", "1000")
        assert look(store)["memory"].level is Level.ERROR


def test_a_server_that_does_not_let_us_look(start_server: StartServer) -> None:
    server = start_server(acl={"app": "on >pw ~* &* +@all -info -config -scan -time -ping"})
    with opened(server.url_for("app", "pw")) as store:
        findings = examine(store, workers=[])
    told = {f.name for f in findings if f.text == "not allowed to look"}
    assert told == {"version", "persistence", "eviction", "memory", "latency", "clock", "keys"}
    assert {f.name for f in findings if f.level is not Level.OK} == {"rights"}
    assert "may not run ping, time on keys" in next(f.text for f in findings if f.name == "rights")


def test_a_server_that_is_gone(redis_server: Server) -> None:
    with opened(redis_server.url) as store:
        redis_server.stop()
        with pytest.raises(RedisUnavailable):
            examine(store, workers=[])


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("6.0.16", Level.ERROR),
        ("5.0", Level.ERROR),
        ("6.2.0", Level.OK),
        ("7.0.15", Level.OK),
        ("10.1", Level.OK),
    ],
)
def test_versions(version: str, level: Level) -> None:
    assert server.version({"redis_version": version}).level is level


def test_keys_without_owner_type_or_expiry(store: Store, hand: Hand) -> None:
    hand.enqueue()
    [leased] = hand.turn(1).jobs
    hand.turn(others=[(leased.entry, Result(b"1", 60_000))])
    keys, command = store.service("mail"), store.connector.command
    assert look(store)["keys"].level is Level.OK

    command(keys.jobs, "PERSIST", keys.result(leased.entry))
    assert look(store)["results"].level is Level.WARN
    command(keys.jobs, "SADD", keys.leased("nobody"), "x")
    leases = look(store)["leases"]
    assert leases.level is Level.WARN
    assert "leased:nobody" in leases.text
    command(keys.jobs, "SET", f"{store.namespace}:cache", "x")
    assert f"{store.namespace}:cache" in look(store)["keys"].text
    command(keys.jobs, "SET", keys.records, "x")
    types = look(store)["types"]
    assert types.level is Level.ERROR
    assert "records is a string, not a hash" in types.text


def test_many_keys_are_looked_at_up_to_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    link = store.connector.open(store.keys.services)
    for number in range(3_000):
        link.command("SET", f"{store.namespace}:x{number}", "")
    link.close()
    assert "3,000 key(s)" in look(store)["keys"].text
    monkeypatch.setattr(keyspace, "_MOST_KEYS", 1_500)
    assert "there are more" in look(store)["keys"].text


def test_unknown_tasks_lost_workers_and_full_dead_letters(store: Store, hand: Hand) -> None:
    store.dead_max = 4
    hand.kill(4)
    hand.enqueue()
    [leased] = hand.turn(1).jobs
    hand.turn(others=[(leased.entry, Postpone(60_000, b"", "nobody.knows"))])
    said = {"host": "h", "seen_ms": browse.now_ms(store) - 100_000}
    store.connector.command(store.keys.presence, "HSET", store.keys.presence, "w", msgspec.json.encode(said))
    store.leave("mail", "w1")

    found = look(store)
    assert "nobody.knows (mail)" in found["tasks"].text
    assert "w on h" in found["workers"].text
    assert "local.jobs.normal.mail (4)" in found["dead letters"].text
    assert "no worker serves it" in found["queues"].text
    assert {found[n].level for n in ("tasks", "workers", "dead letters", "queues")} == {Level.WARN}
    assert all(found[n].fix for n in ("tasks", "workers", "dead letters", "queues"))


@pytest.mark.cluster
def test_a_cluster(cluster_urls: list[str], namespace: str, tmp_path: Path) -> None:
    from redis.cluster import RedisCluster

    store = Store(Connector(RedisCluster.from_url(cluster_urls[0])), namespace=namespace)
    try:
        hand = Hand(store)
        for service in ("a", "b", "c", "d"):
            store.enqueue(service, 1, ("1.x|t1", b'["t"]'))
        hand.link.close()
        findings = examine(store, workers=[])
    finally:
        store.connector.close()
    assert len([f for f in findings if f.name == "version"]) == 3
    # Four services' jobs, ready, wake and sent keys, and the list of services.
    assert next(f for f in findings if f.name == "keys").text.startswith("17 keys")
