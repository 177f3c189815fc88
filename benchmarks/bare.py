"""Bare loops, with no promise at all: what the machine gives today, to compare Fourlane with.

A list of JSON bodies: LPUSH of one and RPUSH of 1,000, LPOP 100 in a call, BRPOP; and a bare uvloop.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import redis as redis_py

from benchmarks.cases import Figures, drain_rate, latencies
from benchmarks.jobs import PAYLOAD
from benchmarks.server import Redis
from benchmarks.workers import Workers

__all__ = ["drain", "in_bulk", "one_at_a_time", "pickup", "uvloop"]

BATCH = 100
BULK = 1_000
DRAIN_JOBS = 80_000
PICKUPS = 50

DRAIN = """
import json, sys, time, redis
from benchmarks import jobs
client, noop = redis.Redis.from_url(sys.argv[1]), jobs.noop
while True:
    for body in client.lpop("bare", int(sys.argv[2])) or [time.sleep(0.01)]:
        if body:
            noop(json.loads(body)["args"][0])
"""

PICKUP = """
import json, sys, redis
from benchmarks import jobs
client = redis.Redis.from_url(sys.argv[1])
while True:
    _, body = client.brpop("bare")
    jobs.stamp(json.loads(body)["args"][0])
"""

UVLOOP = """
import asyncio, uvloop
from benchmarks import jobs
running = set()
async def job():
    await asyncio.sleep(jobs.SLEEP_SECONDS)
    jobs.finish()
def start(ended=None):
    running.discard(ended)
    task = asyncio.create_task(job())
    running.add(task)
    task.add_done_callback(start)
async def main():
    for _ in range(1_000):
        start()
    await asyncio.sleep(3600)
uvloop.run(main())
"""


def one_at_a_time(client: redis_py.Redis, seconds: float) -> float:
    """Jobs a second, each by its own LPUSH."""
    sent, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        client.lpush("bare", _body(PAYLOAD))
        sent += 1
    return sent / (time.monotonic() - began)


def in_bulk(client: redis_py.Redis, seconds: float) -> float:
    """Jobs a second, by RPUSH of 1,000."""
    sent, began = 0, time.monotonic()
    while time.monotonic() - began < seconds:
        client.rpush("bare", *[_body(PAYLOAD) for _ in range(BULK)])
        sent += BULK
    return sent / (time.monotonic() - began)


def drain(redis: Redis) -> float:
    """Jobs a second of one thread that takes 100 in a call."""
    redis.flush()
    for _ in range(DRAIN_JOBS // BULK):
        redis.client.rpush("bare", *[_body(PAYLOAD) for _ in range(BULK)])
    with Workers([[sys.executable, "-c", DRAIN, redis.url, str(BATCH)]], {}) as running:
        rate, _ = drain_rate(running, DRAIN_JOBS)
    return rate


def pickup(redis: Redis) -> Figures:
    """From LPUSH to the first line of the function, through a BRPOP."""
    redis.flush()
    with Workers([[sys.executable, "-c", PICKUP, redis.url]], {}) as running:
        for number in range(PICKUPS + 3):
            redis.client.lpush("bare", _body(PAYLOAD | {"at": time.monotonic_ns()}))
            running.wait_samples(number + 1, 10)
            time.sleep(0.03)
        return latencies(running.samples()[3:])


def uvloop() -> float:
    """Jobs a second of a bare uvloop: a task per job that sleeps 20 ms, 1,000 at once."""
    with Workers([[sys.executable, "-c", UVLOOP]], {}) as running:
        running.wait_count(10_000, 10)
        began, count = time.monotonic(), running.count()
        time.sleep(1.5)
        return (running.count() - count) / (time.monotonic() - began)


def _body(payload: dict[str, Any]) -> str:
    return json.dumps({"id": os.urandom(8).hex(), "task": "noop", "args": [payload]})
