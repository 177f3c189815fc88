"""Hundreds of AI calls at once in one process, against a stand-in that takes 2 s for each.

python -m benchmarks.ai [CALLS]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from itertools import accumulate
from pathlib import Path

LATENCY_SECONDS = 2.0

CALLER = """
import asyncio, json, resource, sys, time
from fourlane.queues.broker import RedisBroker
from fourlane.queues.redis import connect
from fourlane.tasks import ai
import dramatiq, threading
from fourlane.names import Queue, Tier
from fourlane.worker.loop.loop import Loop

url, base_urls, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
broker = ai.generate.broker = RedisBroker(url=url)
dramatiq.set_broker(broker)
broker.declare_actor(ai.generate)
ai.configure(ai.AiConfig(api_keys={"openai": "sk"}, base_urls=base_urls))
rss = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
import openai, genai_prices
loop = Loop(broker, [Queue("ai", tier) for tier in Tier], name="bench", slots=1)
threading.Thread(target=loop.run, daemon=True).start()
ai.generate.send("warm up").result(20)
before, cpu = rss(), time.process_time()
started = time.monotonic()
jobs = ai.generate.send_many([{"prompt": f"question {n}"} for n in range(count)])
peak = before
for job in jobs:
    job.result(120)
    peak = max(peak, rss())
print(json.dumps({"seconds": time.monotonic() - started, "cpu": time.process_time() - cpu, "before": before,
                  "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}))
loop.stop()
"""


def main() -> None:
    from examples.ai.provider import Provider
    from tests.servers import Server

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with (
        tempfile.TemporaryDirectory() as folder,
        Server(Path(folder) / "redis", aof=False) as server,
        Provider(latency_seconds=LATENCY_SECONDS) as provider,
    ):
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", CALLER, server.url, json.dumps(provider.base_urls), str(count)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        told = json.loads(run.stdout)
        begun = [(request["at"], 1) for request in provider.requests]
        ended = [(at + LATENCY_SECONDS, -1) for at, _ in begun]
        most = max(accumulate(change for _, change in sorted(begun + ended)))
    print(f"{count} calls of {LATENCY_SECONDS:g} s: {told['seconds']:.2f} s, CPU {told['cpu']:.2f} s; at once {most}")
    each = (told["peak"] - told["before"]) * 1000 / count
    print(f"memory {told['before']:.0f} MB before, {told['peak']:.0f} MB at most; {each:.0f} kB a call")


if __name__ == "__main__":
    main()
