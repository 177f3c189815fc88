"""A program that sends jobs, waits for results and cancels: ``python -m tests.chaos.producer NAME SEED RATE BACKLOG``.

It writes down what it means to do, and what it was told. A send may raise: then the job may exist or not. It ends when
the folder of the run has a file ``enough``, or when the runner is gone.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fourlane import outbox
from fourlane.db.engine import open_database
from fourlane.errors import RedisUnavailable, ResultTimeout
from fourlane.tasks.task import EnqueuedJob, Task
from tests.chaos.app import FOLDER, book, tasks
from tests.chaos.workload import KINDS, VERSIONS, Kind

SENDERS = 4
RESULT_SECONDS = 40.0
HURRIED = 0.05


class Producer:
    """Sends with several threads, at a rate together."""

    def __init__(self, name: str, seed: str, rate: float) -> None:
        self.name = name
        self.pause_seconds = SENDERS / rate
        self.random = random.Random(seed)
        self.numbers = itertools.count()
        self.parent = os.getppid()
        self.database = open_database(os.environ["DATABASE_URL"])
        # The cut of the suite has no relay.
        self.kinds = [k for k in KINDS.values() if k.weight and (not k.outbox or (FOLDER / "outbox.db").exists())]
        self.lock = threading.Lock()
        self.waiting = ThreadPoolExecutor(8, thread_name_prefix="waiting")
        self.cancelling = ThreadPoolExecutor(4, thread_name_prefix="cancelling")

    def run(self) -> None:
        """Until it is enough."""
        threads = [threading.Thread(target=self._send_on, name=f"sender-{i}") for i in range(SENDERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.cancelling.shutdown()
        self.waiting.shutdown()

    def _enough(self) -> bool:
        return (FOLDER / "enough").exists() or os.getppid() != self.parent

    def _send_on(self) -> None:
        while not self._enough():
            began = time.monotonic()
            kind, choices = self._choose()
            self._send(kind, choices)
            time.sleep(max(0.0, began + self.pause_seconds - time.monotonic()))

    def _choose(self) -> tuple[Kind, random.Random]:
        with self.lock:
            kind = self.random.choices(self.kinds, [k.weight for k in self.kinds])[0]
            if kind.name in VERSIONS["all"] and kind.name not in VERSIONS[self._newest_version()]:
                kind = KINDS["quick"]
            return kind, random.Random(self.random.random())

    def _newest_version(self) -> str:
        """What is deployed now."""
        return (FOLDER / "version").read_text()

    def _send(self, kind: Kind, choices: random.Random) -> None:
        n = f"{self.name}-{next(self.numbers)}"
        delay_ms = choices.randrange(200, 5_000) if kind.delayed else 0
        args = [n, round(choices.uniform(*kind.seconds), 2)] if kind.seconds[1] else [n]
        asked = book.write("meant", n=n, kind=kind.name)
        try:
            if kind.outbox:
                job = self._write_row(tasks[kind.name], n)
            else:
                job = tasks[kind.name].send_with_options(args=args, delay=delay_ms or None)
        except Exception as error:  # what comes out here comes out in somebody's web request
            book.write("refused", n=n, kind=kind.name, text=f"{type(error).__name__}: {error}")
            return
        due = asked + delay_ms / 1000 if delay_ms else 0.0
        book.write("accepted", n=n, id=job.id, kind=kind.name, due=due)
        if kind.answers:
            self.waiting.submit(self._await_result, n, kind.name, job)
        if kind.cancelled:
            self.cancelling.submit(self._cancel, n, kind.name, job, choices.uniform(HURRIED, 2.5))

    def _write_row(self, task: Task[Any, Any], n: str) -> EnqueuedJob[Any]:
        """A row that is committed is a job."""
        with self.database.begin() as session:
            return outbox.enqueue(session, task, n)

    def _await_result(self, n: str, kind: str, job: EnqueuedJob[Any]) -> None:
        """A waiter that Redis fails asks again, as a web request would be asked again."""
        deadline = time.monotonic() + RESULT_SECONDS
        asked = time.monotonic()
        while (left := deadline - time.monotonic()) > 0 and not self._enough():
            try:
                text = str(job.result(timeout=min(left, 5.0)))
            except ResultTimeout:
                continue
            except Exception as error:
                if not isinstance(error, RedisUnavailable):
                    book.write("refused", n=n, kind=kind, text=f"{type(error).__name__}: {error}")
                time.sleep(0.5)
                continue
            book.write("result", n=n, id=job.id, kind=kind, text=text, due=asked)
            return
        book.write("no-result", n=n, id=job.id, kind=kind, due=asked)

    def _cancel(self, n: str, kind: str, job: EnqueuedJob[Any], after_seconds: float) -> None:
        """As an operator, who asks again when Redis was away: else the job would run for all its time."""
        time.sleep(after_seconds)
        failed = False
        while not (failed and self._enough()):
            asked = time.monotonic()
            try:
                state = job.cancel().value
            except Exception as error:
                failed = True
                book.write("cancel", n=n, id=job.id, kind=kind, text="error", due=asked)
                book.write("refused", n=n, kind=kind, text=f"{type(error).__name__}: {error}")
                if not isinstance(error, RedisUnavailable):
                    return
                time.sleep(0.5)
                continue
            if not (failed and state == "unknown"):  # the call whose answer was lost has done it
                book.write("cancel", n=n, id=job.id, kind=kind, text=state, due=asked)
            return


def at_once(kind: Kind, count: int, prefix: str) -> None:
    """Many jobs of one kind: a backlog, or some that kill whoever runs them."""
    calls = [[f"{prefix}-{i}", *kind.seconds[:1]][: 1 + bool(kind.seconds[1])] for i in range(count)]
    for n, *_ in calls:
        book.write("meant", n=str(n), kind=kind.name)
    try:
        jobs = tasks[kind.name].send_many(calls)
    except RedisUnavailable as error:
        book.write("refused", n=prefix, kind=kind.name, text=f"{type(error).__name__}: {error}")
        return
    for (n, *_), job in zip(calls, jobs, strict=True):
        book.write("accepted", n=str(n), id=job.id, kind=kind.name)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["at-once", kind, count, prefix]:
            at_once(KINDS[kind], int(count), prefix)
        case [name, seed, rate, backlog]:
            at_once(KINDS["grind"], int(backlog), f"{name}-backlog")
            Producer(name, seed, float(rate)).run()
        case other:
            sys.exit(f"not understood: {other}")
