"""The main job: 300 real webhook deliveries in four tiers, to a receiver with good and bad days; then the books.

    python -m examples.deliveries

Starts ``fourlane dev`` (on an embedded server unless REDIS_URL is set) and a receiver on this machine, sends, shows
the progress, then what became of the jobs. Then webhooks come in, are booked, and the books are compared
(``examples/billing/demo.py``). With a terminal it runs on until Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

from examples.ai import demo as ai_demo
from examples.billing import demo as billing
from examples.deliveries.payloads import events
from examples.deliveries.receiver import DEMO_SECRET, Receiver
from examples.notifications import demo as notifications

COUNT = 300
TIERS = ("P0", "P1", "P2", "P3")
# Of 30: what the receiver does with them.
PATHS = ("/ok",) * 20 + ("/slow",) * 4 + ("/flaky",) * 4 + ("/dead", "/gone")
PATIENCE_SECONDS = 120


def main() -> int:
    os.environ["FOURLANE_WEBHOOK_ALLOW_PRIVATE"] = "true"  # the receiver is on loopback
    os.environ.update(ai_demo.settings())
    with Receiver() as receiver, TemporaryDirectory() as folder:
        billing.prepare(Path(folder), receiver.url + "/ok", DEMO_SECRET)
        return _main(receiver)


def _main(receiver: Receiver) -> int:
    with _dev() as worker:
        jobs = _send(receiver.url)
        counts = _follow(jobs)
        _summary(jobs, receiver)
        ai_demo.ai_calls()
        notified = notifications.run()
        books_agree = billing.run()
        if sys.stdin.isatty() and sys.stdout.isatty():
            print("\nThe worker runs on; Ctrl-C ends it.", flush=True)
            try:
                worker.process.wait()
            except KeyboardInterrupt:
                pass
    well = notified and books_agree
    return 0 if sum(counts.values()) == len(jobs) and not counts["waiting"] and well else 1


class _dev:
    """``fourlane dev`` beside us."""

    def __enter__(self) -> _dev:
        command = (sys.executable, "-m", "fourlane.cli", "dev")
        self.process = subprocess.Popen(
            [*command, "examples.billing.handlers", "fourlane.tasks.ai", "--slots", "16"],
            stderr=subprocess.PIPE,
            text=True,
        )
        ready = threading.Event()
        threading.Thread(target=self._pass_on, args=(ready,), daemon=True).start()
        while not ready.wait(0.1):
            if self.process.poll() is not None:
                raise SystemExit(f"fourlane dev ended with exit code {self.process.returncode}")
        return self

    def _pass_on(self, ready: threading.Event) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith("ready:"):
                ready.set()
            if " INFO " not in line:  # one line for each finished job is more than a summary wants
                print(line, end="", file=sys.stderr, flush=True)
        ready.set()

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def _send(url: str) -> list[tuple[str, str, Any]]:
    from fourlane.tasks.webhooks import deliver

    jobs = []
    for number, event in enumerate(events(seed=1, count=COUNT)):
        path, tier = PATHS[number // 4 % len(PATHS)], TIERS[number % 4]
        options: dict[str, Any] = {"kwargs": {"secret": DEMO_SECRET, "event_id": event.id}, "tier": tier}
        job = deliver.send_with_options(args=(url + path, event.payload), **options)
        jobs.append((tier, event.id, job))
    print(f"sent {len(jobs)} deliveries in four tiers", flush=True)
    return jobs


def _follow(jobs: list[tuple[str, str, Any]]) -> Counter[str]:
    from fourlane import State

    open_jobs = dict(enumerate(jobs))
    ends: Counter[str] = Counter()
    deadline, told = time.monotonic() + PATIENCE_SECONDS, 0.0
    while open_jobs and time.monotonic() < deadline:
        for number, (_, _, job) in list(open_jobs.items()):
            state = job.status()
            if state in (State.DONE, State.DEAD):
                ends[state.value] += 1
                del open_jobs[number]
        if time.monotonic() - told > 0.5 or not open_jobs:
            told = time.monotonic()
            print(f"  done {ends['done']}, dead {ends['dead']}, waiting {len(open_jobs)}", flush=True)
        time.sleep(0.05)
    ends["waiting"] = len(open_jobs)
    return ends


def _summary(jobs: list[tuple[str, str, Any]], receiver: Receiver) -> None:
    from fourlane import State
    from fourlane import job as job_ids
    from fourlane.queues import dead_letters

    arrivals = receiver.arrivals()
    print("\ntier  sent  done  dead  wait p50    wait p95")
    for tier in TIERS:
        mine = [(event_id, job) for t, event_id, job in jobs if t == tier]
        states = Counter(job.status() for _, job in mine)
        waits = [
            (arrivals[event_id] * 1000 - (job_ids.enqueued_at_ms(job.id) or 0))
            for event_id, job in mine
            if event_id in arrivals
        ]
        cuts = quantiles(waits, n=20) if len(waits) > 1 else [0.0] * 19
        print(
            f"{tier:<5} {len(mine):>5} {states[State.DONE]:>5} {states[State.DEAD]:>5} "
            f"{cuts[9]:>8.0f} ms {cuts[18]:>8.0f} ms"
        )
    stats = receiver.stats()["paths"]
    requests = sum(path["requests"] for path in stats.values())
    distinct = sum(path["distinct"] for path in stats.values())
    print(
        f"\nrequests {requests}, of them retries {requests - distinct}; "
        f"accepted twice {sum(path['duplicates'] for path in stats.values())}"
    )
    store = jobs[0][2].broker.store
    print("\ndead letters (the newest 5):")
    page = dead_letters.find(store, dead_letters.Filter(), limit=5)
    for letter in page.letters:
        print(f"  {letter.id}  {letter.reason:<9} {letter.detail[:70]}")
    print("\nreplay them:  fourlane dead replay --all --yes")


if __name__ == "__main__":
    sys.exit(main())
