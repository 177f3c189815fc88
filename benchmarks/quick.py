"""Fourlane beside bare Redis loops (bare.py), in under a minute: ``make bench-quick``, for use while working.

The bare loops keep no promise; they show what the machine gives today, so that ratios can be compared from one day to
the next where figures cannot. What is compared is measured in turns, and medians are shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from benchmarks import bare, cases, own
from benchmarks.peers import load
from benchmarks.server import Redis, running_redis

__all__ = ["main"]

SLICES = 4
SLICE_SECONDS = 0.3


def main() -> None:
    began = time.monotonic()
    with running_redis() as redis:
        peer = load("fourlane", redis.url)
        print(f"{redis.version}, persistence off; {peer.settings}")
        print(f"{'what':<46}{'fourlane':>12}{'bare':>12}{'ratio':>8}", flush=True)
        bare_before = bare.drain(redis)
        rate = cases.drain(redis, peer)
        two = cases.drain(redis, peer, 2)
        bare_rate = median([bare_before, bare.drain(redis)])
        _line("drain, 1 process, jobs/s (1 thread, LPOP 100)", rate["jobs_per_second"], bare_rate)
        _line("drain, 2 processes, jobs/s", two["jobs_per_second"], bare_rate)
        _line("enqueue one at a time, jobs/s (LPUSH)", *_in_turns(redis, peer.one_at_a_time, bare.one_at_a_time))
        _line("enqueue 1,000 a call, jobs/s (RPUSH 1,000)", *_in_turns(redis, peer.in_bulk, bare.in_bulk))
        picked, bare_picked = cases.pickup(redis, peer), bare.pickup(redis)
        _line("pickup p50, ms (BRPOP)", picked["p50_ms"], bare_picked["p50_ms"])
        _line("pickup p99, ms (BRPOP)", picked["p99_ms"], bare_picked["p99_ms"])
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


def _in_turns(redis: Redis, ours: Callable[[float], float], theirs: Callable[..., float]) -> tuple[float, float]:
    """Medians of slices measured in turns, for the machine's mood changes by the second."""
    rates: tuple[list[float], list[float]] = ([], [])
    redis.flush()
    for _ in range(SLICES):
        rates[0].append(ours(SLICE_SECONDS))
        rates[1].append(theirs(redis.client, SLICE_SECONDS))
    return median(rates[0]), median(rates[1])


def _line(what: str, figure: float, bare_figure: float | None = None) -> None:
    line = f"{what:<46}{_shown(figure):>12}"
    if bare_figure is not None:
        line += f"{_shown(bare_figure):>12}{figure / bare_figure:>8.2f}"
    print(line, flush=True)


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"


if __name__ == "__main__":
    main()
