"""Looks at the server and the keys and says what is wrong, why it matters, and what to do. Changes nothing.

Hosted servers refuse some questions; then the finding says "not allowed to look", and nothing fails.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec

from fourlane.errors import RedisUnavailable
from fourlane.queues import browse, failures, kept, rights
from fourlane.queues.browse import WorkerInfo
from fourlane.queues.connection import Link
from fourlane.queues.store import Store

__all__ = ["NEAR", "Finding", "Level", "examine", "unserved"]

_MOST_KEYS: Final = 100_000
_SCAN_CALLS: Final = 2_000
_SCAN_COUNT: Final = 1_000
_OLDEST_VERSION: Final = (6, 2)
_SLOW_MS: Final = 10.0
_SKEW_MS: Final = 1_000
NEAR: Final = 0.8
_SHOWN: Final = 5
_NOT_ALLOWED: Final = "not allowed to look"

# The catalogue of keys.py, as types; tests/queues/test_doctor.py holds the two together.
_SERVICE_TYPES: Final = {
    r"jobs": "hash",
    r"ready:[0-3]": "list",
    r"delayed": "zset",
    r"workers": "zset",
    r"wake:[0-3]": "zset",
    r"news": "zset",
    r"watch": "zset",
    r"leased:.+": "set",
    r"records": "hash",
    r"crashes": "hash",
    r"reasons": "hash",
    r"dead:[0-3]": "zset",
    r"slots:[0-3]": "set",
    r"buckets": "hash",
    r"cancels": "zset",
    r"stats": "hash",
    r"unknown": "zset",
    r"result:.+": "list",
    r"cancelled:.+": "string",
    r"output:.+": "stream",
    r"log:.+": "list",
    r"progress:.+": "string",
    r"health:.+": "hash",
    r"spent:.+": "hash",
    r"once:.+": "string",
    r"latest:.+": "string",
    r"places:.+": "zset",
    r"breaker:.+": "string",
    r"taken:\d+": "set",
    r"claim:.+": "string",
    r"sent:.+": "string",
    r"counted:.+": "string",
    r"tries:.+": "hash",
    r"schedules": "hash",
    r"states": "hash",
    r"fires": "zset",
    r"lateness": "hash",
    r"declared": "hash",
    r"lead": "string",
    r"runs:.+": "list",
    r"relayed": "zset",
    r"group": "hash",
}
_ENVIRONMENT_TYPES: Final = {
    "services": "set",
    "presence": "hash",
    "alerts": "hash",
    "audit": "list",
    "data": "hash",
    "edits": "zset",
    "rights": "list",
    "providers": "zset",
    "spenders": "zset",
}


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    level: Level
    name: str
    text: str
    fix: str = ""


def examine(store: Store, *, workers: Sequence[WorkerInfo]) -> list[Finding]:
    """Look at everything.

    Parameters:
      workers: what ``browse.workers`` told.

    Raises:
      RedisUnavailable: the server does not answer at all.
    """
    findings: list[Finding] = []
    links = list(store.connector.open_all())
    try:
        for where, link in links:
            prefix = f"{where}: " if where else ""
            findings += (msgspec.structs.replace(f, text=prefix + f.text) for f in _server(link))
        findings += _keys(store, [link for _, link in links])
    finally:
        for _, link in links:
            link.close()
    findings.append(_rights(store))
    findings.append(_declared(store))
    findings += _unknown_tasks(store)
    findings += _workers(workers)
    findings += _queues(store)
    return findings


# The server -------------------------------------------------------------------------------------------------


def _server(link: Link) -> Iterator[Finding]:
    info = _info(link)
    yield _version(info)
    yield _persistence(link, info)
    yield _eviction(link, info)
    yield _memory(info)
    yield _latency(link)
    yield _clock(link)


def _ask(link: Link, *words: Any) -> Any:
    """The reply; None when this server or this user's permissions refuse the command."""
    try:
        return link.command(*words)
    except RedisUnavailable as error:
        if isinstance(error.__cause__, failures.ResponseError):
            return None
        raise


def _info(link: Link) -> dict[str, str]:
    reply = _ask(link, "INFO")
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else ""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _config(link: Link, name: str) -> str | None:
    reply = _ask(link, "CONFIG", "GET", name)
    if isinstance(reply, dict):
        reply = [part for pair in reply.items() for part in pair]
    return reply[1].decode(errors="replace") if reply and len(reply) == 2 else None


def _version(info: dict[str, str]) -> Finding:
    text = info.get("redis_version")
    if text is None:
        return Finding(Level.OK, "version", _NOT_ALLOWED)
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {text}"
    numbers = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if numbers < _OLDEST_VERSION:
        return Finding(Level.ERROR, "version", f"{name} is too old", "use Redis 6.2 or later, or Valkey")
    return Finding(Level.OK, "version", name)


def _persistence(link: Link, info: dict[str, str]) -> Finding:
    name = "persistence"
    if "aof_enabled" not in info:
        return Finding(Level.OK, name, _NOT_ALLOWED)
    for field, what in (
        ("aof_last_write_status", "append-only file"),
        ("rdb_last_bgsave_status", "snapshot"),
    ):
        if info.get(field, "ok") != "ok":
            return Finding(
                Level.ERROR,
                name,
                f"the last write of the {what} failed",
                "look at the server's log and its disk",
            )
    if info["aof_enabled"] == "1":
        return Finding(Level.OK, name, "append-only file")
    save = _config(link, "save")
    if save is None:
        return Finding(Level.OK, name, f"no append-only file; {_NOT_ALLOWED} for snapshots")
    if not save:
        return Finding(
            Level.WARN,
            name,
            "neither append-only file nor snapshots: a restart of the server loses all jobs",
            "set appendonly yes",
        )
    return Finding(
        Level.WARN,
        name,
        f"snapshots only (save {save}): a crash loses the jobs since the last one",
        "set appendonly yes",
    )


def _eviction(link: Link, info: dict[str, str]) -> Finding:
    policy = info.get("maxmemory_policy") or _config(link, "maxmemory-policy")
    if policy is None:
        return Finding(Level.OK, "eviction", _NOT_ALLOWED)
    if policy == "noeviction":
        return Finding(Level.OK, "eviction", policy)
    return Finding(
        Level.ERROR,
        "eviction",
        f"maxmemory-policy is {policy}: Redis may drop jobs when its memory is full",
        "set maxmemory-policy noeviction",
    )


def _memory(info: dict[str, str]) -> Finding:
    if "used_memory" not in info:
        return Finding(Level.OK, "memory", _NOT_ALLOWED)
    used, most = int(info["used_memory"]), int(info.get("maxmemory") or 0)
    whose = "maxmemory" if most else "the machine"
    most = most or int(info.get("total_system_memory") or 0)
    if not most:
        return Finding(Level.OK, "memory", f"{_megabytes(used)} used")
    text = f"{_megabytes(used)} used, {used / most:.0%} of {whose} ({_megabytes(most)})"
    if used < most * NEAR:
        return Finding(Level.OK, "memory", text)
    level = Level.ERROR if used >= most * 0.95 else Level.WARN
    return Finding(level, "memory", text, "give it more memory, or drop dead letters and results")


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"


def _latency(link: Link) -> Finding:
    times: list[float] = []
    for _ in range(5):
        began = time.perf_counter()
        if _ask(link, "PING") is None:
            return Finding(Level.OK, "latency", _NOT_ALLOWED)
        times.append((time.perf_counter() - began) * 1000)
    middle = sorted(times)[2]
    text = f"{middle:.2f} ms for a round trip, {max(times):.2f} at most"
    if middle < _SLOW_MS:
        return Finding(Level.OK, "latency", text)
    return Finding(Level.WARN, "latency", text, "run workers near the server; every turn waits for a round trip")


def _clock(link: Link) -> Finding:
    before = time.time()
    reply = _ask(link, "TIME")
    after = time.time()
    if reply is None:
        return Finding(Level.OK, "clock", _NOT_ALLOWED)
    there = int(reply[0]) * 1000 + int(reply[1]) / 1000
    # The server read its clock somewhere between the two; only what lies outside them is skew.
    skew = there - min(max(there, before * 1000), after * 1000)
    if abs(skew) < _SKEW_MS:
        return Finding(Level.OK, "clock", f"within {max(1, round(abs(skew)))} ms of this machine's")
    return Finding(
        Level.WARN,
        "clock",
        f"{abs(skew) / 1000:.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's; ages are as wrong",
        "synchronize the clocks (NTP)",
    )


def _rights(store: Store) -> Finding:
    lacking = rights.denied(store)
    if not lacking:
        return Finding(Level.OK, "rights", "this user may run all that Fourlane needs")
    text = f"this user may not run {', '.join(lacking)} on keys {store.namespace}:*"
    return Finding(Level.ERROR, "rights", text, "give it the rights that docs/operating.md lists")


def _declared(store: Store) -> Finding:
    if not kept.is_lost(store):
        return Finding(Level.OK, "data", "Redis has what running programs declared to it")
    return Finding(
        Level.ERROR,
        "data",
        "Redis lost its data: schedules and limits that code declares are not back yet",
        "workers and schedulers declare them again within seconds; see their logs, and set appendonly yes",
    )


# Keys -------------------------------------------------------------------------------------------------------


class _Sweep:
    """What a scan of the namespace found."""

    def __init__(self, store: Store) -> None:
        namespace = re.escape(store.namespace)
        service = "|".join(f"(?:{name})" for name in _SERVICE_TYPES)
        self.of_service = re.compile(rf"{namespace}:\{{(?P<env>[^:}}]+):(?P<service>[^}}]+)\}}:(?P<name>{service})")
        self.of_environment = re.compile(rf"{namespace}:[^:{{}}]+:(?P<name>{'|'.join(_ENVIRONMENT_TYPES)})")
        self.patterns = [(re.compile(name), kind) for name, kind in _SERVICE_TYPES.items()]
        self.environment = store.environment
        self.seen = 0
        self.complete = True
        self.strange: list[str] = []
        self.garbage: list[str] = []
        self.lasting: list[str] = []
        self.leased: dict[tuple[str, str], str] = {}
        """Leased sets of this environment by service and lease name."""

    def wanted_type(self, key: str) -> str | None:
        """The type that the catalogue gives a key; None when it has no such key."""
        if match := self.of_environment.fullmatch(key):
            return _ENVIRONMENT_TYPES[match["name"]]
        match = self.of_service.fullmatch(key)
        if match is None:
            return None
        kind, _, name = match["name"].partition(":")
        if kind == "leased" and match["env"] == self.environment:
            self.leased[match["service"], name] = key
        return next(wanted for pattern, wanted in self.patterns if pattern.fullmatch(match["name"]))

    def look(self, link: Link, keys: Sequence[bytes]) -> None:
        types = _many(link, [("TYPE", key) for key in keys])
        results: list[bytes] = []
        for raw, kind in zip(keys, types, strict=True):
            key = raw.decode(errors="replace")
            wanted = self.wanted_type(key)
            if kind in (b"none", None):  # gone since, or not ours to ask
                continue
            if wanted is None:
                self.strange.append(key)
            elif kind.decode() != wanted:
                self.garbage.append(f"{key} is a {kind.decode()}, not a {wanted}")
            elif ":result:" in key:
                results.append(raw)
        ttls = _many(link, [("PTTL", key) for key in results])
        self.lasting += [k.decode(errors="replace") for k, ttl in zip(results, ttls, strict=True) if ttl == -1]


def _many(link: Link, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Replies to many commands in one round trip; None for one that was refused."""
    for command in commands:
        link.send(*command)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(link.receive())
        except RedisUnavailable as error:
            if not isinstance(error.__cause__, failures.ResponseError):
                raise
            replies.append(None)
    return replies


def _keys(store: Store, links: Sequence[Link]) -> Iterator[Finding]:
    sweep = _Sweep(store)
    for link in links:
        if not _scan(store, link, sweep):
            yield Finding(Level.OK, "keys", _NOT_ALLOWED)
            return
    bound = "" if sweep.complete else f" (the first {_MOST_KEYS:,} of them; there are more)"
    orphans = _orphans(store, sweep)
    if not sweep.strange and not orphans:
        yield Finding(Level.OK, "keys", f"{sweep.seen:,} keys, every one has an owner{bound}")
    if sweep.strange:
        yield Finding(
            Level.WARN,
            "keys",
            f"{len(sweep.strange):,} key(s) that Fourlane does not know{bound}: {_some(sweep.strange)}",
            f"nobody cleans them: remove them, or give the program that writes them another prefix than "
            f"{store.namespace}:",
        )
    if orphans:
        yield Finding(
            Level.WARN,
            "leases",
            f"{len(orphans):,} leased set(s) of workers that nobody watches{bound}: {_some(orphans)}",
            "their jobs do not come back by themselves; report this, it is a bug",
        )
    if sweep.garbage:
        yield Finding(
            Level.ERROR,
            "types",
            f"{len(sweep.garbage):,} key(s) of the wrong type: {_some(sweep.garbage)}",
            "another program writes here: give Fourlane a namespace of its own, then remove these keys",
        )
    if sweep.lasting:
        yield Finding(
            Level.WARN,
            "results",
            f"{len(sweep.lasting):,} result(s) that never expire: {_some(sweep.lasting)}",
            "somebody removed their expiry: set one, or remove them",
        )


def _scan(store: Store, link: Link, sweep: _Sweep) -> bool:
    """Look at a server's keys in batches; False when it does not let us."""
    cursor: Any = 0
    for _ in range(_SCAN_CALLS):
        reply = _ask(link, "SCAN", cursor, "MATCH", f"{store.namespace}:*", "COUNT", _SCAN_COUNT)
        if reply is None:
            return False
        cursor, keys = int(reply[0]), reply[1]
        keys = keys[: _MOST_KEYS - sweep.seen]
        sweep.seen += len(keys)
        if keys:
            sweep.look(link, keys)
        if cursor == 0:
            return True
        if sweep.seen >= _MOST_KEYS:
            break
    sweep.complete = False
    return True


def _orphans(store: Store, sweep: _Sweep) -> list[str]:
    names: dict[str, set[str]] = {}
    found = []
    for (service, name), key in sweep.leased.items():
        if service not in names:  # read after the scan: a worker is on the list before it leases
            names[service] = set(store.lease_names(service))
        # It may have been emptied by a worker that left while we looked.
        if name not in names[service] and store.connector.command(key.encode(), "EXISTS", key):
            found.append(key)
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


# Jobs -------------------------------------------------------------------------------------------------------


def _unknown_tasks(store: Store) -> Iterator[Finding]:
    unknown = browse.unknown_tasks(store)
    if not unknown:
        yield Finding(Level.OK, "tasks", "no job of the last 48 hours named a task that its worker did not know")
        return
    names = _some([f"{task.name} ({task.service})" for task in unknown])
    yield Finding(
        Level.WARN,
        "tasks",
        f"{len(unknown):,} task(s) that some worker did not know: {names}",
        "start a worker that imports the module that declares them; their jobs wait for it for 24 hours",
    )


def _workers(workers: Sequence[WorkerInfo]) -> Iterator[Finding]:
    for worker in workers:
        if worker.overrun is not None and not worker.lost:
            yield Finding(
                Level.ERROR,
                "jobs",
                f"{worker.overrun} in {worker.name}",
                "its function does not heed the interrupt (docs/runbooks/job-overrun.md)",
            )
    lost = [f"{worker.name} on {worker.host or '?'}" for worker in workers if worker.lost]
    if lost:
        yield Finding(
            Level.WARN,
            "workers",
            f"{len(lost):,} worker(s) not seen for 90 s: {_some(lost)}",
            "see whether they crashed or lost their connection; their jobs went to others",
        )
        return
    versions = Counter(worker.version for worker in workers if worker.version)
    if len(versions) > 1:
        told = ", ".join(f"{version} × {number}" for version, number in sorted(versions.items()))
        yield Finding(Level.WARN, "workers", f"of different versions: {told}", "finish the deploy")
        return
    yield Finding(Level.OK, "workers", f"{len(workers):,} running")


def unserved(service: browse.ServiceInfo) -> int:
    """Jobs that wait for a worker, where there is none; paused queues left out."""
    return 0 if service.workers else service.delayed + sum(q.ready for q in service.queues if not q.paused)


def _queues(store: Store) -> Iterator[Finding]:
    services = browse.services(store)
    for service in services:
        if waiting := unserved(service):
            yield Finding(
                Level.WARN,
                "queues",
                f"{waiting:,} job(s) of {service.name} wait, and no worker serves it",
                f"start one: fourlane worker, with the tasks of {service.name}",
            )
    full = [
        f"{queue.name} ({queue.dead:,})"
        for service in services
        for queue in service.queues
        if queue.dead >= store.dead_max * NEAR
    ]
    if full:
        yield Finding(
            Level.WARN,
            "dead letters",
            f"near the limit of {store.dead_max:,}, where the oldest are dropped: {_some(full)}",
            "replay or discard them (fourlane dead), or raise FOURLANE_DEAD_MAX",
        )
        return
    total = sum(queue.dead for service in services for queue in service.queues)
    yield Finding(Level.OK, "dead letters", f"{total:,}, none of the queues near the limit of {store.dead_max:,}")
