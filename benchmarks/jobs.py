"""What the jobs do, the same for every peer, and how they tell the benchmark that they ran.

Nothing of it goes through Redis: a thread writes each process's count of finished jobs into a file, every 20 ms, so
that counting costs a peer one ``list.append`` per job. Latencies are appended to a file by the job itself. Times are
of the monotonic clock, which all processes of a machine share (Node's ``process.hrtime`` is the same).
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["PAYLOAD", "SLEEP_SECONDS", "finish", "hold", "noop", "sleep", "stamp"]

PUBLISH_SECONDS = 0.02
SLEEP_SECONDS = 0.02
HOLD_SECONDS = 600

PAYLOAD: dict[str, Any] = {
    "organization": 48211,
    "user": "ada.lovelace@example.com",
    "template": "invoice-paid",
    "locale": "en-GB",
    "url": "https://example.com/invoices/2026/11/000481516",
    "amount": 129.5,
    "tags": ["billing", "mail"],
}
"""The one argument of every job: about 200 bytes of JSON."""
assert 190 <= len(json.dumps(PAYLOAD)) <= 215

_done: list[None] = []


def finish() -> None:
    """Count a job as finished."""
    _done.append(None)


def noop(payload: dict[str, Any]) -> None:
    """Nothing but to be counted."""
    _done.append(None)


def sleep(payload: dict[str, Any]) -> None:
    """A job of 20 ms."""
    time.sleep(SLEEP_SECONDS)
    _done.append(None)


def stamp(payload: dict[str, Any]) -> None:
    """Write down how many nanoseconds after its moment ``at`` this job began."""
    late = time.monotonic_ns() - payload["at"]
    _append("samples", f"{late}\n")


def hold(payload: dict[str, Any]) -> None:
    """Hold a slot until the worker is killed; when it runs again, write down when."""
    mark = _folder() / f"held-{payload['id']}"
    if mark.exists():
        _append("again", f"{time.monotonic_ns()}\n")
        return
    mark.touch()
    time.sleep(HOLD_SECONDS)


def _folder() -> Path:
    return Path(os.environ["BENCH_FOLDER"])


def _append(kind: str, text: str) -> None:
    file = os.open(_folder() / f"{kind}-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, text.encode())
    os.close(file)


def _publish() -> None:
    file = os.open(_folder() / f"count-{os.getpid()}", os.O_WRONLY | os.O_CREAT)
    told = 0
    while True:
        time.sleep(PUBLISH_SECONDS)
        count = len(_done)
        if count != told:
            os.pwrite(file, count.to_bytes(8, "little"), 0)
            told = count


def _start() -> None:
    _done.clear()
    threading.Thread(target=_publish, name="bench-count", daemon=True).start()


if "BENCH_FOLDER" in os.environ:  # only workers have it
    _start()
    os.register_at_fork(after_in_child=_start)
