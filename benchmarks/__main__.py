"""``make bench``: Fourlane beside its peers, on one Redis, in one run.

    python -m benchmarks --only drain,pickup --peers fourlane,huey --repeat 1 --quick

Writes results/latest.json, and from it docs/benchmarks.md with its plots.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.peers import NAMES
from benchmarks.server import Redis, cpu_ticks, running_redis

__all__ = ["main"]

RESULTS = Path(__file__).parent / "results" / "latest.json"
REPEATED = ("drain", "drain2", "enqueue", "pickup", "priority")
ONCE = ("delayed", "crash")
"""Cases that take long: once, and not with --quick."""
OWN = {"async": ("fourlane",), "lone": ("fourlane",)}
OWN_ONCE = {
    "idle": ("fourlane",),
    "idle-memory": ("fourlane", "dramatiq", "bullmq"),
    "delayed-memory": ("fourlane",),
    "start": ("fourlane",),
    "backlog": ("fourlane",),
    "observe": ("fourlane",),
}
SECONDS = {"crash": 240.0}
DEFAULT_SECONDS = 120.0
BUDGET_SECONDS = 25 * 60.0
"""No repetition is begun that would end later, by the time that the last one took."""
CALM_SECONDS = 1.5
CALM_SHARE = 0.25
BETWEEN_TERM_AND_KILL = 10.0


class Run:
    """All measurements of one call of the benchmark."""

    def __init__(self, redis: Redis, results: dict[str, Any]) -> None:
        self.redis = redis
        self.results = results
        self.missing: dict[str, str] = {}

    def measure(self, case: str, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.missing:
                busy = _calm()
                self._keep(case, name, _one(case, name, self.redis.url), busy)

    def together(self, case: str, names: Iterable[str]) -> None:
        """All peers at once: for a case that mostly waits."""
        present = [name for name in names if name not in self.missing]
        self.redis.flush()
        with ThreadPoolExecutor(len(present)) as pool:
            found = pool.map(lambda name: _one(case, name, self.redis.url), present)
            for name, result in zip(present, found, strict=True):
                self._keep(case, name, result, 0.0)

    def save(self, began: float) -> None:
        self.results["minutes"] = round((time.monotonic() - began) / 60, 1)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(self.results, indent=1))

    def _keep(self, case: str, name: str, result: dict[str, Any], busy: float) -> None:
        if "missing" in result:
            self.missing[name] = self.results["missing"][name] = result["missing"]
            print(f"  {name}: not here ({result['missing']})", flush=True)
            return
        if "about" in result:
            self.results["peers"][name] = result["about"]
        kept = self.results["cases"].setdefault(case, {}).setdefault(name, {"runs": [], "failed": [], "busy": []})
        if "failed" in result:
            kept["failed"].append(result["failed"])
        else:
            kept["runs"].append(result["figures"])
            kept["busy"].append(round(busy, 2))
        print(f"  {case:<10} {name:<10} {report.in_short(case, result)}", flush=True)


def _one(case: str, name: str, url: str) -> dict[str, Any]:
    """Run benchmarks/one.py and read its answer."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.one", case, name, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, errors = process.communicate(timeout=SECONDS.get(case, DEFAULT_SECONDS))
    except subprocess.TimeoutExpired:
        process.terminate()  # it ends its workers, and tells
        try:
            out, errors = process.communicate(timeout=BETWEEN_TERM_AND_KILL)
        except subprocess.TimeoutExpired:
            process.kill()
            return {"failed": "hung, and was killed"}
    except BaseException:
        process.terminate()
        process.wait()
        raise
    for line in out.splitlines():
        if line.startswith("RESULT "):
            found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
            return found
    last = errors.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
    return {"failed": last[0][:300]}


def _calm() -> float:
    """Wait some seconds at most for the machine to be idle; returns the share of it that others use."""
    deadline = time.monotonic() + CALM_SECONDS
    while True:
        before = cpu_ticks()
        time.sleep(0.25)
        after = cpu_ticks()
        busy = 1 - (after[0] - before[0]) / max(1, after[1] - before[1])
        if busy < CALM_SHARE or time.monotonic() > deadline:
            return busy


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Fourlane beside its peers.")
    everything = (*REPEATED, *ONCE, *OWN, *OWN_ONCE)
    parser.add_argument("--only", default=",".join(everything), help="cases: " + ", ".join(everything))
    parser.add_argument("--peers", default=",".join(NAMES), help="peers: " + ", ".join(NAMES))
    parser.add_argument("--repeat", type=int, default=3, help="how often each case is measured; medians are shown")
    parser.add_argument("--quick", action="store_true", help="once each, without the cases that take minutes")
    parser.add_argument("--no-report", action="store_true", help="write results/latest.json only, not docs/")
    options = parser.parse_args(given)
    only, names = options.only.split(","), options.peers.split(",")
    for word, known in ((only, everything), (names, NAMES)):
        if unknown := [w for w in word if w not in known]:
            parser.error(f"{unknown[0]!r} is not known; choose of {', '.join(known)}")
    repeat = 1 if options.quick else options.repeat
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with running_redis() as redis:
        command = "python -m benchmarks " + " ".join(sys.argv[1:] if given is None else given)
        run = Run(redis, _about(redis, command.strip(), repeat))
        print(f"{redis.version}, persistence off, on a free port; {run.results['machine']}", flush=True)
        for number in range(repeat):
            repetition_began = time.monotonic()
            turn = number * 2 % len(names)
            order = names[turn:] + names[:turn]  # no peer always comes first, or after the same one
            print(f"repetition {number + 1} of {repeat}", flush=True)
            for case in (c for c in REPEATED if c in only):
                run.measure(case, order)
            for case in (c for c in OWN if c in only):
                run.measure(case, [n for n in OWN[case] if n in names])
            took = time.monotonic() - repetition_began
            if number == 0 and not options.quick:
                _once(run, only, names)
            run.results["repeated"] = number + 1
            run.save(began)
            if number + 1 < repeat and time.monotonic() - began + took > BUDGET_SECONDS:
                print(f"stopping after repetition {number + 1}: another would take too long", flush=True)
                break
    print("\n" + report.text(run.results))
    if not options.no_report:
        report.write(run.results)
        print(f"\nwritten: {RESULTS.relative_to(Path.cwd())}, docs/benchmarks.md")
    return 0


def _once(run: Run, only: list[str], names: list[str]) -> None:
    if "delayed" in only:
        run.measure("delayed", names)
    for case in (c for c in OWN_ONCE if c in only):
        run.measure(case, [n for n in OWN_ONCE[case] if n in names])
    if "crash" in only:
        run.together("crash", names)


def _about(redis: Redis, command: str, repeat: int) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "repeat": repeat,
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "redis": redis.version,
        "redis_py": f"{version('redis')} with hiredis {version('hiredis')}",
        "peers": {},
        "missing": {},
        "cases": {},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")


if __name__ == "__main__":
    sys.exit(main())
