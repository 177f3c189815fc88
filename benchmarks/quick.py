"""Fourlane beside bare Redis loops, in under a minute: ``make bench-quick``, for use while working.

The bare loops keep no promise: a list of JSON bodies, LPUSH of one and of 1,000, LPOP 100 in a call, BRPOP. They show
what the machine gives today, so that ratios can be compared from one day to the next where figures cannot.
"""

from __future__ import annotations

import time

from benchmarks import cases, own
from benchmarks.peers import load
from benchmarks.server import running_redis

__all__ = ["main"]


def main() -> None:
    began = time.monotonic()
    with running_redis() as redis:
        peer = load("fourlane", redis.url)
        print(f"{redis.version}, persistence off; {peer.settings}")
        bare = own.bare(redis)
        print(f"{'what':<44}{'fourlane':>12}{'bare':>12}{'ratio':>8}", flush=True)
        rate = cases.drain(redis, peer)
        _line("drain, 1 process, jobs/s (LPOP 100)", rate["jobs_per_second"], bare["jobs_per_second"])
        two = cases.drain(redis, peer, 2)
        _line("drain, 2 processes, jobs/s", two["jobs_per_second"], bare["jobs_per_second"])
        sent = cases.enqueue(redis, peer)
        _line("enqueue one at a time, jobs/s (LPUSH)", sent["one_per_second"], bare["one_per_second"])
        _line("enqueue 1,000 a call, jobs/s (RPUSH 1,000)", sent["bulk_per_second"], bare["bulk_per_second"])
        picked = cases.pickup(redis, peer)
        _line("pickup p50, ms (BRPOP)", picked["p50_ms"], bare["p50_ms"])
        _line("pickup p99, ms (BRPOP)", picked["p99_ms"], bare["p99_ms"])
        slept = own.async_jobs(redis, peer)
        _line("async 20 ms × 1,000, jobs/s (uvloop)", slept["jobs_per_second"], slept["uvloop_per_second"])
        urgent = cases.priority(redis, peer)
        assert urgent is not None
        _line("P0 behind 5,000 × 20 ms, p50, ms", urgent["p50_ms"])
        _line("P0 behind 5,000 × 20 ms, p99, ms", urgent["p99_ms"])
        one = own.lone(redis, peer)
        _line("lone job: calls", one["calls_per_job"])
        _line("lone job: commands", one["commands_per_job"])
        _line("under load: calls per job", rate["calls_per_job"])
        _line("under load: commands per job", rate["commands_per_job"])
        _line("Redis bytes per queued job", rate["bytes_per_job"])
    print(f"took {time.monotonic() - began:.0f} s")


def _line(what: str, figure: float, bare: float | None = None) -> None:
    line = f"{what:<44}{_shown(figure):>12}"
    if bare is not None:
        line += f"{_shown(bare):>12}{figure / bare:>8.2f}"
    print(line, flush=True)


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"


if __name__ == "__main__":
    main()
