"""The server: its version, what it keeps and what it drops, its memory, its distance, its clock."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.doctor.findings import NEAR, NOT_ALLOWED, Finding, Level
from fourlane.queues.redis import Link, is_answer

__all__ = ["ask", "look_at_server"]

_OLDEST_VERSION: Final = (6, 2)
_SLOW_MS: Final = 10.0
_SKEW_MS: Final = 1_000


def look_at_server(link: Link) -> Iterator[Finding]:
    info = _info(link)
    yield version(info)
    yield _persistence(link, info)
    yield _eviction(link, info)
    yield _memory(info)
    yield _latency(link)
    yield _clock(link)


def ask(link: Link, *words: Any) -> Any:
    """The reply; None when this server or this user's permissions refuse the command."""
    try:
        return link.command(*words)
    except RedisUnavailable as error:
        if is_answer(error):
            return None
        raise


def _info(link: Link) -> dict[str, str]:
    reply = ask(link, "INFO")
    text = reply.decode(errors="replace") if isinstance(reply, bytes) else ""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _config(link: Link, name: str) -> str | None:
    reply = ask(link, "CONFIG", "GET", name)
    if isinstance(reply, dict):
        reply = [part for pair in reply.items() for part in pair]
    return reply[1].decode(errors="replace") if reply and len(reply) == 2 else None


def version(info: dict[str, str]) -> Finding:
    text = info.get("redis_version")
    if text is None:
        return Finding(Level.OK, "version", NOT_ALLOWED)
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {text}"
    numbers = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if numbers < _OLDEST_VERSION:
        return Finding(Level.ERROR, "version", f"{name} is too old", "use Redis 6.2 or later, or Valkey")
    return Finding(Level.OK, "version", name)


def _persistence(link: Link, info: dict[str, str]) -> Finding:
    name = "persistence"
    if "aof_enabled" not in info:
        return Finding(Level.OK, name, NOT_ALLOWED)
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
        return Finding(Level.OK, name, f"no append-only file; {NOT_ALLOWED} for snapshots")
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
        return Finding(Level.OK, "eviction", NOT_ALLOWED)
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
        return Finding(Level.OK, "memory", NOT_ALLOWED)
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
        if ask(link, "PING") is None:
            return Finding(Level.OK, "latency", NOT_ALLOWED)
        times.append((time.perf_counter() - began) * 1000)
    middle = sorted(times)[2]
    text = f"{middle:.2f} ms for a round trip, {max(times):.2f} at most"
    if middle < _SLOW_MS:
        return Finding(Level.OK, "latency", text)
    return Finding(Level.WARN, "latency", text, "run workers near the server; every turn waits for a round trip")


def _clock(link: Link) -> Finding:
    before = time.time()
    reply = ask(link, "TIME")
    after = time.time()
    if reply is None:
        return Finding(Level.OK, "clock", NOT_ALLOWED)
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
