"""What it costs to be seen: no-op jobs drained by three workers in turns, on one Redis.

``stripped`` is the engine without its hooks: as the worker starts, the lines that tell observers are taken out of its
source (AST) and the rest is compiled anew. ``off`` is the worker as installed. ``on`` has metrics,
traces at default sampling and error reports, sent to a collector in this process.

All three live the whole time, each with a service of its own. A round stops each in turn (SIGSTOP), fills its queue,
lets it go and times it; so what is compared was measured a second apart, and medians of the rounds' ratios are told.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any, Final

import fourlane
from benchmarks import jobs
from benchmarks.jobs import PAYLOAD
from benchmarks.server import Redis, children, free_port
from benchmarks.workers import TooLate, Workers

__all__ = ["observed"]

VARIANTS: Final = ("stripped", "off", "on")
ROUNDS: Final = 25
JOBS: Final = 25_000
BULK: Final = 1_000
SECONDS: Final = 20.0

if "BENCH_SERVICE" in os.environ:  # a worker
    fourlane.task(name="noop", tier="P2", service=os.environ["BENCH_SERVICE"])(jobs.noop)


def observed(redis: Redis, peer: Any) -> dict[str, Any]:
    """Jobs a second and CPU of each variant, and what being seen costs, in percent of the drain."""
    redis.flush()
    with ExitStack() as stack:
        collector = stack.enter_context(_Collector())
        running = {name: stack.enter_context(_Drain(name, redis.url, collector.url)) for name in VARIANTS}
        rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
        cpus: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for number in range(ROUNDS + 1):
            order = VARIANTS if number % 2 else VARIANTS[::-1]
            for name in order:
                rate, cpu = running[name].round()
                if number:  # the first one warms up
                    rates[name].append(rate)
                    cpus[name].append(cpu)
    figures: dict[str, Any] = {f"{name}_per_second": median(rates[name]) for name in VARIANTS}
    figures |= {f"{name}_cpu_us": median(cpus[name]) for name in VARIANTS}
    for name, base in (("off", "stripped"), ("on", "off")):
        figures[f"{name}_cost_percent"] = _cost(rates[base], rates[name])
        figures[f"{name}_cpu_percent"] = _cost(cpus[name], cpus[base])
    return figures | {"rounds": ROUNDS, "jobs": JOBS}


def _cost(without: list[float], with_it: list[float]) -> float:
    """The median of what was lost in each round, in percent."""
    return 100 * (1 - median(b / a for a, b in zip(without, with_it, strict=True)))


class _Drain:
    """One worker, and its queue."""

    def __init__(self, name: str, url: str, collector: str) -> None:
        from fourlane.tasks.task import default_broker

        self.name = name
        self.store: Any = default_broker().store
        env = {"REDIS_URL": url, "BENCH_SERVICE": name}
        modules = ["benchmarks.observe"]
        if name == "stripped":
            modules.append("benchmarks.stripped")
        if name == "on":
            env |= {
                "FOURLANE_METRICS": "true",
                "FOURLANE_PROBE_PORT": str(free_port()),
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
                "SENTRY_DSN": collector.replace("//", "//key@") + "/1",
            }
        command = [sys.executable, "-m", "fourlane.cli", "worker", *modules, "--slots", "8", "--services", name]
        self.workers = Workers([command], env)
        self.sent = 0

    def __enter__(self) -> _Drain:
        self.workers.start()
        self._fill(1)
        if not self.workers.wait_count(1, SECONDS):
            raise TooLate(f"{self.name}: no job ran: {self.workers.log()}")
        [self.pid] = children(self.workers.processes[0].pid)
        return self

    def __exit__(self, *error: object) -> None:
        self.workers.__exit__(*error)

    def round(self) -> tuple[float, float]:
        """Jobs a second, and microseconds of CPU for each."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            self._fill(JOBS)
        finally:
            cpu, began = _cpu_seconds(self.pid), time.monotonic()
            os.kill(self.pid, signal.SIGCONT)
        if not self.workers.wait_count(self.sent, SECONDS):
            raise TooLate(f"{self.name}: {self.workers.count()} of {self.sent} jobs ran: {self.workers.log()}")
        took = time.monotonic() - began
        return JOBS / took, (_cpu_seconds(self.pid) - cpu) / JOBS * 1e6

    def _fill(self, number: int) -> None:
        from fourlane import codec, job

        while number > 0:
            now, some = int(time.time() * 1000), min(BULK, number)
            body = codec.encode("noop", (PAYLOAD,), {})
            self.store.enqueue(self.name, 2, [word for _ in range(some) for word in (job.new_id(2, now), body)])
            self.sent += some
            number -= some


def _cpu_seconds(pid: int) -> float:
    """Of all threads, in nanoseconds' precision."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


class _Collector:
    """Takes what is sent, and throws it away."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> _Collector:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
