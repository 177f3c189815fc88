"""The cases that every peer runs, one measurement each: figures by name, or None where a peer has no such thing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from benchmarks.peers import Peer
from benchmarks.server import Redis
from benchmarks.workers import TooLate, Workers

__all__ = ["CASES", "Figures", "percentile"]

Figures = dict[str, Any]

BYTES_JOBS = 10_000  # the memory per job is taken with so many waiting, or what there is after BYTES_SECONDS
BYTES_SECONDS = 8.0
DRAIN_JOBS = 200_000
FILL_SECONDS = 1.5
DRAIN_SECONDS = 3.0
START_SECONDS = 40.0
ENQUEUE_SECONDS = 1.5
PICKUPS = 100
PICKUP_SECONDS = 6.0
LOW_JOBS = 5_000
HIGH_JOBS = 150
HIGH_PAUSE_SECONDS = (0.010, 0.030)  # by chance: an even 20 ms would beat with the jobs' own 20 ms
WAITING_DELAYED = 100_000
FILL_DELAYED_SECONDS = 15.0
DELAYED = 300
CRASH_JOBS = 8
CRASH_SECONDS = 150.0


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def workers(peer: Peer, case: str, processes: int = 1) -> Workers:
    return Workers(peer.commands(case, processes), peer.env(case))


def started(running: Workers, peer: Peer) -> None:
    """Wait until the workers run jobs, then a moment more, so that they are idle."""
    have = len(running.samples())
    peer.send_stamp()
    if not running.wait_samples(have + 1, START_SECONDS):
        raise TooLate(f"no job ran within {START_SECONDS:g} s of the start: {running.log()}")
    time.sleep(0.3)


# Throughput ---------------------------------------------------------------------------------------------------


def drain(redis: Redis, peer: Peer, processes: int = 1) -> Figures:
    """Fill the queue with no-op jobs, then start the workers: jobs a second, from the first tenth to the end."""
    peer.fill("noop", 1, BYTES_SECONDS)  # scripts and what else a server keeps once
    redis.flush()
    before = redis.memory()
    sent = peer.fill("noop", BYTES_JOBS, BYTES_SECONDS if processes == 1 else 1.0, least=1_000)
    time.sleep(0.5)  # until Redis has moved its hash into a larger table
    bytes_per_job = (redis.memory() - before) / sent
    sent += peer.fill("noop", DRAIN_JOBS - sent, FILL_SECONDS)
    redis.reset_counts()
    with workers(peer, "drain", processes) as running:
        rate, done = drain_rate(running, sent)
    calls, commands = redis.counts()
    return {
        "jobs_per_second": rate,
        "bytes_per_job": bytes_per_job,
        "calls_per_job": calls / done,
        "commands_per_job": commands / done,
        "jobs": done,
    }


def drain_rate(running: Workers, sent: int) -> tuple[float, int]:
    """Jobs a second and how many: until all are done, or as many as are in DRAIN_SECONDS."""
    first = max(1, min(sent // 10, 20_000))
    if not running.wait_count(1, START_SECONDS):
        raise TooLate(f"no job ran within {START_SECONDS:g} s of the start: {running.log()}")
    running.wait_count(first, DRAIN_SECONDS)
    began, count = time.monotonic(), running.count()
    running.wait_count(sent, DRAIN_SECONDS)
    ended, done = time.monotonic(), running.count()
    if done <= count:
        raise TooLate(f"no more than {done} of {sent} jobs ran: {running.log()}")
    return (done - count) / (ended - began), done


def drain2(redis: Redis, peer: Peer) -> Figures:
    return drain(redis, peer, 2)


def enqueue(redis: Redis, peer: Peer) -> Figures:
    """One producer, jobs a second: each in its own call, and 1,000 in a call."""
    redis.flush()
    one = peer.one_at_a_time(ENQUEUE_SECONDS)
    redis.flush()
    bulk = peer.in_bulk(ENQUEUE_SECONDS) if peer.bulk else None
    return {"one_per_second": one, "bulk_per_second": bulk}


# Latency ------------------------------------------------------------------------------------------------------


def pickup(redis: Redis, peer: Peer) -> Figures:
    """One job after another to an idle worker: from before the enqueue to the begin of the function."""
    redis.flush()
    with workers(peer, "pickup") as running:
        for _ in range(3):
            started(running, peer)
        first = len(running.samples())
        deadline = time.monotonic() + PICKUP_SECONDS
        pause = random.Random(1)
        for number in range(PICKUPS):
            peer.send_stamp()
            if not running.wait_samples(first + number + 1, START_SECONDS):
                raise TooLate("a job was not picked up")
            if time.monotonic() > deadline:
                break
            time.sleep(pause.uniform(0.020, 0.150))
        return latencies(running.samples()[first:])


def latencies(nanoseconds: list[int]) -> Figures:
    ms = [ns / 1e6 for ns in nanoseconds]
    return {"p50_ms": percentile(ms, 0.5), "p99_ms": percentile(ms, 0.99), "samples_ms": sorted(ms)}


def priority(redis: Redis, peer: Peer) -> Figures | None:
    """Urgent jobs while 8 slots work on 5,000 jobs of 20 ms."""
    if not peer.tiers:
        return None
    redis.flush()
    with workers(peer, "priority") as running:
        started(running, peer)
        first = len(running.samples())
        peer.fill("sleep", LOW_JOBS, 60.0)
        if not running.wait_count(50, START_SECONDS):
            raise TooLate("the jobs of 20 ms do not run")
        pause = random.Random(1)
        for _ in range(HIGH_JOBS):
            peer.send_stamp(urgent=True)
            time.sleep(pause.uniform(*HIGH_PAUSE_SECONDS))
        if running.count() >= LOW_JOBS:
            raise TooLate("the low jobs were done before the last urgent one was sent")
        if not running.wait_samples(first + HIGH_JOBS, 20.0):
            raise TooLate(f"{len(running.samples()) - first} of {HIGH_JOBS} urgent jobs ran within 20 s of the last")
        came = running.samples()[first:]
        return latencies(came)


def delayed(redis: Redis, peer: Peer) -> Figures | None:
    """Jobs due within 1 to 5 s, with 100,000 more that are due in an hour."""
    if not peer.delays:
        return None
    redis.flush()
    with workers(peer, "delayed") as running:
        started(running, peer)
        first = len(running.samples())
        waiting = peer.fill("noop", WAITING_DELAYED, FILL_DELAYED_SECONDS, delay_ms=3_600_000)
        time.sleep(1)
        spread = random.Random(1)
        for _ in range(DELAYED):
            peer.send_stamp(delay_ms=spread.randrange(1_000, 5_000))
        running.wait_samples(first + DELAYED, 10.0)
        came = running.samples()[first:]
        if not came:
            raise TooLate(f"none of {DELAYED} delayed jobs ran within 5 s of its time, {waiting:,} more waiting")
        return latencies(came) | {"waiting": waiting, "ran": len(came)}


# Death --------------------------------------------------------------------------------------------------------


def crash(redis: Redis, peer: Peer) -> Figures:
    """Kill a worker that runs 8 jobs, as if its machine died, start another: seconds until the jobs run again."""
    with workers(peer, "crash") as running:
        for _ in range(3):
            started(running, peer)
        for number in range(CRASH_JOBS):
            peer.send("hold", {"id": number})
        deadline = time.monotonic() + 20
        while not (held := len(list(running.folder.glob("held-*")))) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(2)
        held = len(list(running.folder.glob("held-*")))
        if not held:
            raise TooLate(f"no job began: {running.log()}")
        running.kill()
        killed = time.monotonic_ns()
        running.start()
        running.wait_samples(held, CRASH_SECONDS, "again")
        again = sorted((moment - killed) / 1e9 for moment in running.samples("again"))
        return {
            "held": held,
            "first_seconds": again[0] if again else None,
            "all_seconds": again[-1] if len(again) >= held else None,
            "ran_again": len(again),
            "waited_seconds": CRASH_SECONDS,
        }


CASES: dict[str, Callable[[Redis, Peer], Figures | None]] = {
    "drain": drain,
    "drain2": drain2,
    "enqueue": enqueue,
    "pickup": pickup,
    "priority": priority,
    "delayed": delayed,
    "crash": crash,
}
