"""What is measured of Fourlane alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks import bare
from benchmarks.cases import Figures, drain_rate, started, workers
from benchmarks.jobs import PAYLOAD
from benchmarks.observe import observed
from benchmarks.peers import Peer
from benchmarks.server import Monitor, Redis, children, process_memory
from benchmarks.workers import TooLate, Workers

__all__ = ["OWN"]

BATCH = 100
ASYNC_JOBS = 100_000
LONE_JOBS = 30
IDLE_SECONDS = 60.0
SETTLED_SECONDS = 35.0  # after the last job
SHALLOW, DEEP = 1_000, 1_000_000
BLOCK_ROUNDS = 20
BLOCKS = 15
STARTS = 10
FIRST_SEND = """
import time
began = time.process_time()
import fourlane
@fourlane.task(service="bench")
def work(number): ...
imported = time.process_time()
work.send(1)
print((imported - began) * 1000, (time.process_time() - imported) * 1000)
"""


# Fourlane alone -----------------------------------------------------------------------------------------------


def async_jobs(redis: Redis, peer: Peer) -> Figures:
    """``async def`` jobs of 20 ms, 1,000 at once in one process, beside a bare uvloop that does the same."""
    from benchmarks.peers.fourlane_async import async_sleep

    redis.flush()
    for _ in range(ASYNC_JOBS // 1_000):
        async_sleep.send_many([(PAYLOAD,)] * 1_000)
    with workers(peer, "async") as running:
        rate, _ = drain_rate(running, ASYNC_JOBS)
    uvloop = bare.uvloop()
    return {"jobs_per_second": rate, "uvloop_per_second": uvloop, "share": rate / uvloop}


def lone(redis: Redis, peer: Peer) -> Figures:
    """Calls and commands from enqueue to done, for jobs that come one by one to an idle worker."""
    redis.flush()
    with workers(peer, "lone") as running:
        started(running, peer)
        time.sleep(2)
        first = len(running.samples())
        with Monitor(redis.url) as monitor:
            for number in range(LONE_JOBS):
                peer.send_stamp()
                running.wait_samples(first + number + 1, 10)
                time.sleep(0.03)
    return {
        # The wait that a job wakes was armed before its enqueue; the one armed after it serves the next job.
        "calls_per_job": (sum(monitor.calls.values()) - monitor.calls["bzpopmin"]) / LONE_JOBS,
        "waits_per_job": monitor.calls["bzpopmin"] / LONE_JOBS,
        "commands_per_job": (sum(monitor.calls.values()) + sum(monitor.inside.values())) / LONE_JOBS,
        "calls": {name: number / LONE_JOBS for name, number in monitor.calls.most_common()},
        "inside": {name: number / LONE_JOBS for name, number in monitor.inside.most_common()},
    }


def idle(redis: Redis, peer: Peer, seconds: float = IDLE_SECONDS) -> Figures:
    """Calls and commands of an idle process in a minute, and the memory of it."""
    redis.flush()
    with workers(peer, "idle") as running:
        started(running, peer)
        time.sleep(SETTLED_SECONDS)
        with Monitor(redis.url) as monitor:
            time.sleep(seconds)
        rss, pss = memory(running)
        supervisor, _ = process_memory(running.processes[0].pid)
    scale = 60 / seconds
    calls, inside = sum(monitor.calls.values()), sum(monitor.inside.values())
    return {
        "calls_per_minute": calls * scale,
        "commands_per_minute": (calls + inside) * scale,
        "calls": dict(monitor.calls),
        "inside": dict(monitor.inside),
        "rss_mb": rss,
        "pss_mb": pss,
        "supervisor_rss_mb": supervisor,
    }


def memory(running: Workers) -> tuple[float, float]:
    """RSS and PSS of the process that runs the jobs: the started one, or else its largest child."""
    started_one = running.processes[0].pid
    found = [process_memory(pid) for pid in children(started_one)] or [process_memory(started_one)]
    return max(found)


def idle_memory(redis: Redis, peer: Peer) -> Figures:
    """RSS and PSS in MB of an idle worker process that ran a job."""
    redis.flush()
    with workers(peer, "idle") as running:
        started(running, peer)
        time.sleep(2)
        rss, pss = memory(running)
    return {"rss_mb": rss, "pss_mb": pss}


def delayed_memory(redis: Redis, peer: Peer) -> Figures:
    """What the worker process grows by when 100,000 delayed jobs come."""
    redis.flush()
    with workers(peer, "idle") as running:
        started(running, peer)
        time.sleep(1)
        before, _ = memory(running)
        waiting = peer.fill("noop", 100_000, 40, delay_ms=3_600_000)
        time.sleep(5)
        after, _ = memory(running)
    return {"growth_mb": after - before, "waiting": waiting}


def start(redis: Redis, peer: Peer) -> Figures:
    """CPU time of a program that declares a task and sends its first job: the least of some, as others use the CPU."""
    found = []
    for _ in range(STARTS):
        done = subprocess.run([sys.executable, "-c", FIRST_SEND], env=os.environ | {"REDIS_URL": redis.url},
                              capture_output=True, text=True, check=True)  # fmt: skip
        found.append([float(figure) for figure in done.stdout.split()])
    importing, sending = min(found, key=sum)
    return {"import_ms": importing, "first_send_ms": sending, "start_ms": importing + sending}


def backlog(redis: Redis, peer: Peer) -> Figures:
    """Enqueue, lease and settle 100 jobs, with 1,000 waiting and with 1,000,000: the cost in turns, the same run.

    Store's own calls, one after the other without a worker, so that only the depth differs.
    """
    from fourlane import codec, job
    from fourlane.queues.turn import Ask, Leased
    from fourlane.tasks.task import default_broker

    redis.flush()
    store: Any = default_broker().store
    body = codec.encode("noop", (PAYLOAD,), {})
    fresh = iter(range(10**9))

    def pairs(number: int) -> list[Any]:
        now = int(time.time() * 1000) + next(fresh)
        return [word for _ in range(number) for word in (job.new_id(2, now), body)]

    links, held = {}, {}
    for service, depth in (("shallow", SHALLOW), ("deep", DEEP)):
        for _ in range(depth // 1_000):
            store.enqueue(service, 2, pairs(1_000))
        links[service] = store.connector.open(store.service(service).jobs)
        held[service] = deque[Leased]()

    def rounds(service: str) -> float:
        batches = [pairs(BATCH) for _ in range(BLOCK_ROUNDS)]
        began, cpu = time.perf_counter(), redis.cpu_seconds()
        for batch in batches:
            store.enqueue(service, 2, batch)
            lease = Ask(BATCH, "0123", held=len(held[service]), beat=True, silence_ms=60_000)
            turn = store.turn(links[service], service, "bench", lease)
            done = [leased.entry for leased in turn.jobs]
            store.turn(links[service], service, "bench", Ask(beat=True, idle_silence_ms=60_000), done=done)
            if len(done) != BATCH:
                raise TooLate(f"a turn leased {len(done)} jobs, not {BATCH}")
        took = time.perf_counter() - began
        cpus[service].append((redis.cpu_seconds() - cpu) / (BLOCK_ROUNDS * BATCH) * 1e6)
        return took / (BLOCK_ROUNDS * BATCH) * 1e6

    times: dict[str, list[float]] = {"shallow": [], "deep": []}
    cpus: dict[str, list[float]] = {"shallow": [], "deep": []}
    for number in range(BLOCKS):
        for service in ("shallow", "deep") if number % 2 else ("deep", "shallow"):
            times[service].append(rounds(service))
    shallow, deep = median(times["shallow"][1:]), median(times["deep"][1:])
    return {
        "shallow_us": shallow,
        "deep_us": deep,
        "ratio": deep / shallow,
        "shallow_redis_us": median(cpus["shallow"]),
        "deep_redis_us": median(cpus["deep"]),
    }


OWN: dict[str, Callable[[Redis, Peer], Figures]] = {
    "async": async_jobs,
    "lone": lone,
    "idle": idle,
    "idle-memory": idle_memory,
    "delayed-memory": delayed_memory,
    "start": start,
    "backlog": backlog,
    "observe": observed,
}
