"""Where a worker's time goes: ``make profile`` samples the real worker process with py-spy while it drains no-op jobs.

For each thread of the process: how much of the time it ran, held the interpreter's lock, or waited (for Redis, for
another thread), and the functions that it was in. "Itself" leaves out what a function calls. Needs the right to trace
a child process (root, or kernel.yama.ptrace_scope=0).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.cases import workers
from benchmarks.jobs import PAYLOAD
from benchmarks.peers import load
from benchmarks.server import children, running_redis

__all__ = ["main"]

JOBS = 100_000
RATE = 400
TOP = 25
REDIS_WAIT = ("receive (", "read_response (", "_read_from_socket (", "send_packed_command (", "sendall (")
IDLE_WAIT = ("select (", "_wait (")


def main() -> int:
    with running_redis() as redis:
        peer = load("fourlane", redis.url)
        for _ in range(3 * JOBS // 1_000):
            peer.send_many("noop", [PAYLOAD] * 1_000)
        with tempfile.TemporaryDirectory() as folder, workers(peer, "drain") as running:
            running.wait_count(1, 20)
            [child] = children(running.processes[0].pid)
            redis.reset_counts()
            cpu, count, began = redis.cpu_seconds(), running.count(), time.monotonic()
            spies = {
                kind: subprocess.Popen(
                    [
                        str(Path(sys.executable).parent / "py-spy"), "record", "--pid", str(child), "--threads",
                        "--format", "raw", "--output", f"{folder}/{kind}", "--rate", str(RATE), "--duration", "2",
                        "--nonblocking", *flags,
                    ],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                for kind, flags in (("all", ["--idle"]), ("lock", ["--gil"]))
            }  # fmt: skip
            for spy in spies.values():
                said, _ = spy.communicate(timeout=60)
                if spy.returncode:
                    print(f"py-spy cannot sample the worker: {said.strip()}", file=sys.stderr)
                    return 1
            jobs, seconds = running.count() - count, time.monotonic() - began
            calls, commands = redis.counts()
            cpu = redis.cpu_seconds() - cpu
            every, lock = (_stacks(Path(folder, kind)) for kind in ("all", "lock"))
    print(f"{jobs:,} jobs in {seconds:.1f} s under the profiler: {jobs / seconds:,.0f}/s")
    print(f"Redis: {calls / jobs:.4f} calls and {commands / jobs:.3f} commands per job, {cpu / jobs * 1e6:.2f} µs CPU "
          f"per job, {cpu / seconds:.0%} of a core\n")  # fmt: skip
    _threads(every, lock)
    _functions("functions that hold the interpreter's lock, share of the samples with it held", lock)
    loop = Counter({stack: n for stack, n in every.items() if _thread(stack) == "MainThread"})
    _functions("the loop's thread (MainThread), waits included", loop)
    return 0


def _stacks(file: Path) -> Counter[tuple[str, ...]]:
    """Samples by stack: the thread, then the functions from the outermost in."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in file.read_text().splitlines():
        stack, _, number = line.rpartition(" ")
        found[tuple(stack.split(";"))] += int(number)
    return found


def _thread(stack: tuple[str, ...]) -> str:
    name = next((frame for frame in stack if frame.startswith("thread (")), stack[0])
    name = name.split(":", 1)[-1].strip(' )"')
    return name.rstrip("0123456789-_ ") or name


def _threads(every: Counter[tuple[str, ...]], lock: Counter[tuple[str, ...]]) -> None:
    held, total = Counter[str](), Counter[str]()
    redis, idle = Counter[str](), Counter[str]()
    for stack, number in lock.items():
        held[_thread(stack)] += number
    for stack, number in every.items():
        name = _thread(stack)
        total[name] += number
        inner = stack[-3:]
        if any(word in frame for frame in inner for word in REDIS_WAIT):
            redis[name] += number
        elif any(word in stack[-1] for word in IDLE_WAIT):
            idle[name] += number
    locked = max(1, sum(held.values()))
    print(f"{'thread':<28}{'of the lock':>12}{'in Redis calls':>16}{'in select':>11}")
    for name, number in total.most_common():
        print(f"{name[:27]:<28}{held[name] / locked:>12.0%}{redis[name] / number:>16.0%}{idle[name] / number:>11.0%}")


def _functions(title: str, stacks: Counter[tuple[str, ...]]) -> None:
    itself, whole = Counter[str](), Counter[str]()
    total = max(1, sum(stacks.values()))
    for stack, number in stacks.items():
        frames = [_short(frame) for frame in stack if not frame.startswith("thread (")]
        if not frames:
            continue
        itself[frames[-1]] += number
        for frame in set(frames):
            whole[frame] += number
    print(f"\n{title}\n{'itself':>8}{'whole':>8}  function")
    for frame, number in itself.most_common(TOP):
        print(f"{number / total:>8.1%}{whole[frame] / total:>8.1%}  {frame}")


def _short(frame: str) -> str:
    """``name (folder/file.py)``: without the line, so that samples of a function come together."""
    name, _, place = frame.partition(" (")
    file = place.rstrip(")").rpartition(":")[0]
    return f"{name} ({'/'.join(Path(file).parts[-2:])})" if file else name


if __name__ == "__main__":
    sys.exit(main())
