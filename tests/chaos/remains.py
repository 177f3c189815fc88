"""What a run left in Redis, read key by key: only the doctor is asked what the product says of itself."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from sqlalchemy import select

from fourlane import codec
from fourlane.db.engine import open_database
from fourlane.db.models import JobOutbox
from fourlane.job import id_of_entry, message_id_of
from fourlane.queues import browse, doctor
from fourlane.queues.keys import ServiceKeys
from fourlane.queues.redis import Connector, client_of
from fourlane.queues.store import Store
from tests.chaos.site import NAMESPACE
from tests.chaos.workload import SERVICES
from tests.servers import Server

__all__ = ["Left", "Remains", "crashes", "read", "unfinished", "unsent"]

CONTROL = "!"
BESIDE = ("|q", "|t")  # the crashes: silences of workers that held it, deaths in which it alone was on trial
PASSING = re.compile(rf"{NAMESPACE}:{{[^}}]+}}:(result|output|log|progress|once|latest|breaker|claim|taken|lead)\b")
"""What is bound by its expiry alone (fourlane/queues/keys.py)."""
OF_KEYS = {"keys", "leases", "types", "results"}


class Left(msgspec.Struct, kw_only=True):
    """What the keys of one service hold."""

    tasks: dict[str, str] = {}
    """The jobs that have a body, and their tasks."""
    ready: list[str] = []
    delayed: dict[str, float] = {}
    leased: dict[str, list[str]] = {}
    workers: dict[str, float] = {}
    attempts: dict[str, int] = {}
    crashes: dict[str, int] = {}
    dead: dict[str, str] = {}
    slots: list[str] = []
    cancels: list[str] = []
    apart: list[str] = []
    """Ids of which something is kept beside the body."""
    done: int = 0
    """Jobs counted as done."""


class Remains(msgspec.Struct, kw_only=True):
    """All of it."""

    now_ms: int = 0
    services: dict[str, Left] = {}
    doctor: list[str] = []
    """What the doctor finds wrong with keys."""
    lasting: list[str] = []
    """Keys that are to expire, and do not."""
    rows: dict[str, str] = {}
    """The rows of the outbox by the ids of their jobs: "relayed", "waiting", or why one failed."""


def read(server: Server, database_url: str) -> Remains:
    """Everything, when all workers have stopped."""
    with server.client() as client:
        seconds, micros = client.time()
        services = {service: _left(client, service) for service in SERVICES}
        passing = [k for k in client.scan_iter(match=f"{NAMESPACE}:*", count=1000) if PASSING.match(k)]
        lasting = [key for key in passing if client.ttl(key) == -1]
    store = Store(Connector(client_of(server.url)), namespace=NAMESPACE)
    try:
        findings = doctor.examine(store, workers=browse.workers(store))
    finally:
        store.connector.close()
    wrong = [f"{f.name}: {f.text}" for f in findings if f.name in OF_KEYS and f.level is not doctor.Level.OK]
    now_ms = seconds * 1000 + micros // 1000
    return Remains(now_ms=now_ms, services=services, doctor=wrong, lasting=lasting, rows=_rows(database_url))


def _rows(database_url: str) -> dict[str, str]:
    if not database_url:
        return {}
    database = open_database(database_url)
    try:
        with database.begin() as session:
            rows = session.scalars(select(JobOutbox)).all()
            return {str(row.id): row.error or ("relayed" if row.relayed_at else "waiting") for row in rows}
    finally:
        database.close()


def unsent(database_url: str) -> list[str]:
    """The rows that no relay has moved."""
    return [row for row, state in _rows(database_url).items() if state == "waiting"]


def _left(client: Any, service: str) -> Left:
    keys = ServiceKeys(NAMESPACE, "local", service)
    bodies = {i: body for i, body in client.hgetall(keys.jobs).items() if i != CONTROL}
    records = client.hgetall(keys.records)
    beside = (keys.records, keys.crashes, keys.reasons)
    leased_keys = list(client.scan_iter(match=f"{NAMESPACE}:{{local:{service}}}:leased:*", count=1000))
    return Left(
        tasks={message_id_of(i): codec.decode(body.encode()).task if body else "" for i, body in bodies.items()},
        ready=[_id(e) for key in keys.ready for e in client.lrange(key, 0, -1)],
        delayed={_id(e): due for e, due in client.zrange(keys.delayed, 0, -1, withscores=True)},
        leased={k.rpartition(":leased:")[2]: sorted(map(_id, client.smembers(k))) for k in leased_keys},
        workers=dict(client.zrange(keys.workers, 0, -1, withscores=True)),
        attempts={
            message_id_of(i): msgspec.json.decode(r).get("attempts", 0) for i, r in records.items() if "|" not in i
        },
        crashes={
            message_id_of(i): int(number)
            for i, number in client.hgetall(keys.crashes).items()
            if not i.endswith(BESIDE)
        },
        dead={
            message_id_of(i): client.hget(keys.reasons, i) or "" for key in keys.dead for i in client.zrange(key, 0, -1)
        },
        slots=[i for key in keys.slots for i in client.smembers(key)],
        cancels=client.zrange(keys.cancels, 0, -1),
        apart=sorted({_id(field) for key in beside for field in client.hkeys(key)}),
        done=sum(int(v) for k, v in client.hgetall(keys.stats).items() if k.startswith("done:")),
    )


def _id(entry: str) -> str:
    """The id that callers know."""
    return message_id_of(id_of_entry(entry))


def crashes(server: Server) -> dict[str, int]:
    """The crashes that are counted now. Raises redis.RedisError."""
    with server.client() as client:
        found: dict[str, int] = {}
        for service in SERVICES:
            counted: dict[str, str] = client.hgetall(ServiceKeys(NAMESPACE, "local", service).crashes)
            found |= {message_id_of(i): int(number) for i, number in counted.items() if not i.endswith(BESIDE)}
        return found


def unfinished(server: Server) -> int:
    """Jobs that are neither done nor dead. Raises redis.RedisError."""
    total = 0
    with server.client() as client:
        for service in SERVICES:
            keys = ServiceKeys(NAMESPACE, "local", service)
            bodies: int = client.hlen(keys.jobs) - client.hexists(keys.jobs, CONTROL)
            total += bodies - sum(client.zcard(key) for key in keys.dead)
    return total
