"""One organization does its worst; another must not feel, see or lose anything.

    python -m benchmarks.hostile [--quiet 30] [--seconds 120]

Starts its own Redis, PostgreSQL (with fsync), the receiver of webhooks and a worker of two processes with the relay.
Bird enqueues an urgent job through the outbox each 0.2 s, sends an event to its endpoints each 0.5 s and gets a webhook
each second. After a quiet phase Acme attacks, in processes of its own with a smaller share of the machine (nice
10), since strangers bring their own. The exit code is 1 when Bird's p95 is over 1.5 times what it was,
plus 50 ms; or when anything was seen, changed or lost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.hostile import attack, checks, events
from benchmarks.hostile.bird import Bird, lines_of
from benchmarks.hostile.parties import BIRD
from benchmarks.hostile.waits import Waits, judged, table
from benchmarks.hostile.world import World, opened
from benchmarks.server import cpu_ticks
from tests.servers import eventually

_NICE: Final = 10
_DRAIN_SECONDS: Final = 180.0
_SHORT_DRAIN_SECONDS: Final = 60.0
_END_SECONDS: Final = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quiet", type=float, default=30, help="seconds before the attack")
    parser.add_argument("--seconds", type=float, default=120, help="of the attack")
    parser.add_argument("--endpoints", type=int, default=50, help="of the attacker's")
    parser.add_argument("--events", type=int, default=100, help="each is delivered to all of them")
    parser.add_argument("--forged", type=float, default=200, help="forged webhooks a second")
    parser.add_argument(
        "--only", default=",".join(attack.PARTS), help="parts of the attack: " + ", ".join(attack.PARTS)
    )
    parser.add_argument("--short", action="store_true", help="seconds, little of everything, waits are not judged")
    given = parser.parse_args()
    if given.short:
        given.quiet, given.seconds, given.endpoints, given.events, given.forged = 0.5, 4, 16, 1, 100
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends with it
    _say(f"others use {_used_by_others():.0%} of the machine: with much, the waits say little")
    with _folder() as folder:
        settings = {"FOURLANE_WEBHOOK_TIMEOUT_SECONDS": "2"} if given.short else {}
        with opened(folder, durable=not given.short, **settings) as world:
            return _run(world, given)


def _used_by_others() -> float:
    before = cpu_ticks()
    time.sleep(0.5)
    idle, ticks = (after - first for after, first in zip(cpu_ticks(), before, strict=True))
    return 1 - idle / max(1, ticks)


@contextmanager
def _folder() -> Iterator[Path]:
    kept = os.environ.get("HOSTILE_KEEP")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Path(kept)
        return
    with tempfile.TemporaryDirectory(prefix="fourlane-hostile-") as name:
        yield Path(name)


def _run(world: World, given: argparse.Namespace) -> int:
    before = checks.belongings(world.admin)
    heard = events.add_endpoints(world.database, world.receivers_port, given.endpoints)
    with Bird(world.members_url, world.database, world.webhooks_port, world.folder) as bird:
        _warm(world, bird)
        quiet_at = time.time()
        _say(f"quiet for {given.quiet:g} s")
        time.sleep(given.quiet)
        attacked_at = time.time()
        _say(f"under attack for {given.seconds:g} s")
        heard.update(_attacked(world, given))
        ended_at = time.time()
        events.disable_all(world.database)
        bird.stop()
        _say("over; what is left goes on")
        faults = list(checks.drain(world, _SHORT_DRAIN_SECONDS if given.short else _DRAIN_SECONDS))
        _say(f"done after {time.time() - ended_at:.0f} s")
    faults += checks.faults(world, bird, before, heard)
    several = _waits(world, bird, quiet_at, attacked_at, ended_at)
    _report(several, heard)
    if not given.short:
        faults += filter(None, map(judged, several))
    for fault in faults:
        print(f"FAULT {fault}")
    print("failed" if faults else "nothing of Bird's was delayed, seen, changed or lost")
    return 1 if faults else 0


def _warm(world: World, bird: Bird) -> None:
    """Until the first of each kind has arrived: they load what the others find loaded."""
    eventually(lambda: len(lines_of(world.folder / "started")) > 2, 30)
    eventually(lambda: bird.answers and all(len(world.receiver.arrived[name]) > 1 for name in ("plain", "ordered")), 30)


def _attacked(world: World, given: argparse.Namespace) -> Counter[str]:
    """Attack with all parts at once; what they heard."""
    told = json.dumps(
        {
            "members_url": world.members_url,
            "folder": str(world.folder),
            "redis_port": world.redis_port,
            "receivers_port": world.receivers_port,
            "webhooks_port": world.webhooks_port,
            "seconds": given.seconds,
            "events": given.events,
            "forged_rate": given.forged,
        }
    )
    parts = [part for part in attack.PARTS if part in given.only.split(",")]
    parts.sort(key=lambda part: part != "receivers")
    for part in parts:
        command = [sys.executable, "-m", "benchmarks.hostile.attack", part, told]
        world.processes.start(part, command, os.environ, nice=0 if given.short else _NICE)
        if part == "receivers":
            world.processes.wait_for(part, "serving")
    heard: Counter[str] = Counter()
    for part in parts:
        if part != "receivers":
            world.processes.wait(part, given.seconds + _END_SECONDS)
    for part in parts:
        code = world.processes.end(part)
        assert code == 0, f"{part} ended with {code}:\n{world.processes.log(part)[-3000:]}"
        heard.update(json.loads(world.processes.log(part).splitlines()[-1]))
    return heard


def _waits(world: World, bird: Bird, quiet_at: float, attacked_at: float, ended_at: float) -> list[Waits]:
    started = {name: at for at, name in lines_of(world.folder / "started")}
    arrived = {number: at for at, number in world.receiver.arrived["plain"]}
    jobs = [(at, started[name]) for name, at in bird.committed.items() if name in started]
    deliveries = [(at, arrived[number]) for number, at in bird.sent.items() if number in arrived]

    world.admin.execute(
        "SELECT extract(epoch FROM relayed_at), extract(epoch FROM created_at) FROM job_outbox"
        " WHERE organization_id = %s AND relayed_at IS NOT NULL",
        [str(BIRD.organization)],
    )
    relayed = [(float(made), float(moved)) for moved, made in world.admin.fetchall()]

    def between(pairs: list[tuple[float, float]], first: float, last: float) -> list[float]:
        return [(there - at) * 1000 for at, there in pairs if first <= at < last]

    def waits(name: str, pairs: list[tuple[float, float]]) -> Waits:
        return Waits(name, between(pairs, quiet_at, attacked_at), between(pairs, attacked_at, ended_at))

    return [
        waits("a row's way to Redis", relayed),
        waits("commit to start of a P0 job", jobs),
        waits("send_event to arrival", deliveries),
    ]


def _report(several: list[Waits], heard: Counter[str]) -> None:
    print("\nWhat Acme did, and heard:")
    for what, number in sorted(heard.items()):
        print(f"  {what:45}{number:10,}")
    print("\nHow long Bird waited:")
    for line in table(several):
        print(f"  {line}")
    print()


def _say(text: Any) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
