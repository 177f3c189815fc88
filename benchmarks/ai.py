"""AI calls in one process, against a stand-in: what a small one costs, and hundreds of long ones at once.

python -m benchmarks.ai [CALLS [STREAMS [SECONDS]]]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PIECES_A_SECOND = 3

CALLER = """
import asyncio, gc, json, sys, threading, time
import dramatiq, fourlane
import openai, genai_prices
from fourlane.names import Tier, Queue
from fourlane.queues.broker import RedisBroker
from fourlane.tasks import ai
from fourlane.worker.loop.loop import Loop

url, base_urls, count, seconds = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
broker = RedisBroker(url=url)
dramatiq.set_broker(broker)
ai.generate.broker = broker
broker.declare_actor(ai.generate)
limits = {"openai": {"timeout_seconds": seconds + 60}}
ai.configure(ai.AiConfig(api_keys={"openai": "sk"}, base_urls=base_urls, limits=limits))
mb = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

@fourlane.task(service="ai", timeout_ms=600_000, result_ttl_ms=600_000)
async def lags(samples: int) -> list[float]:
    found = []
    for _ in range(samples):
        due = time.perf_counter() + 0.02
        await asyncio.sleep(0.02)
        found.append((time.perf_counter() - due) * 1000)
    return found

loop = Loop(broker, [Queue("ai", tier) for tier in Tier], name="bench", slots=1)
threading.Thread(target=loop.run, daemon=True).start()
for _ in range(20):
    ai.generate.send("warm up").result(60)
gc.set_threshold(25_000, 10, 10)  # as in a worker's process
gc.collect()
gc.freeze()
idle, cpu, started = mb(), time.process_time(), time.monotonic()
watched = lags.send(int(seconds / 0.02)) if seconds else None
jobs = ai.generate.send_many([{"prompt": f"question {n}"} for n in range(count)])
peak = idle
done = threading.Event()
def watch():
    global peak
    while not done.wait(0.2):
        peak = max(peak, mb())
threading.Thread(target=watch, daemon=True).start()
for job in jobs:
    job.result(seconds + 240)
told = {"seconds": time.monotonic() - started, "cpu": time.process_time() - cpu, "idle": idle}
done.set()
late = watched.result(240) if watched else [0.0]
tenth = len(late) // 10
p99 = lambda found: sorted(found)[int(len(found) * 0.99)]
told |= {"peak": max(peak, mb()), "p99": p99(late), "amid": p99(late[tenth : len(late) - tenth]), "most": max(late)}
print(json.dumps(told))
loop.stop()
"""


def main() -> None:
    calls, streams, seconds = [int(word) for word in sys.argv[1:]] + [1_000, 500, 60][len(sys.argv) - 1 :]
    small = run(calls, 0)
    print(f"{calls} small calls: {small['seconds']:.2f} s, CPU {small['cpu'] / calls * 1000:.2f} ms a call")
    told = run(streams, seconds)
    print(
        f"{streams} at once of {seconds} s, {PIECES_A_SECOND} pieces a second: {told['seconds']:.1f} s, "
        f"CPU {told['cpu']:.1f} s; memory {told['idle']:.0f} MB idle, {told['peak'] - told['idle']:.0f} MB more; "
        f"loop late by {told['p99']:.0f} ms (p99), {told['amid']:.0f} ms amid the run (all begin at once), "
        f"{told['most']:.0f} ms at most"
    )


def run(count: int, seconds: float) -> dict[str, Any]:
    """Make calls of so many seconds each, all at once, in a process of its own; what it measured."""
    from examples.ai.provider import Provider
    from examples.ai.script import Script
    from tests.servers import Server

    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder) / "redis", aof=False) as server,
        Provider() as provider,
    ):
        provider.scripts.extend([Script()] * 20)
        if seconds:
            # Each at a pace of its own: those of real providers do not fall together either.
            paces = [PIECES_A_SECOND * (0.75 + 0.5 * number / count) for number in range(count)]
            scripts = (Script(pieces=("word ",) * int(seconds * pace), pause_seconds=1 / pace) for pace in paces)
            provider.scripts.extend(scripts)
        options = [server.url, json.dumps(provider.base_urls), str(count), str(seconds)]
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", CALLER, *options], stdout=subprocess.PIPE, text=True, check=True
        )
        found: dict[str, Any] = json.loads(ran.stdout)
        return found


if __name__ == "__main__":
    main()
