"""The worker processes, and the tasks that some of them did not know."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from fourlane.queues.browse.server import now_ms
from fourlane.queues.redis.replies import pairs, scored
from fourlane.queues.store import Store

__all__ = ["MissingTask", "Overrun", "WorkerInfo", "unknown_tasks", "workers"]

LOST_AFTER_MS: Final = 90_000
FORGOTTEN_AFTER_MS: Final = 600_000


class Overrun(msgspec.Struct, frozen=True):
    """A job that runs on though its own time limit passed: its function does not heed the interrupt."""

    job: str
    task: str
    over_ms: int

    def __str__(self) -> str:
        return f"job {self.job} ({self.task}) has run {self.over_ms / 1000:,.0f} s past its time limit"


class WorkerInfo(msgspec.Struct, frozen=True):
    """A worker process, as it last described itself."""

    name: str
    host: str = ""
    pid: int = 0
    started_ms: int = 0
    seen_ms: int = 0
    queues: list[str] = []
    slots: int = 0
    concurrency: int = 0
    processes: int = 1
    names: dict[str, str] = {}
    """Its lease name in each service."""
    held: int = 0
    version: str = ""
    overrun: Overrun | None = None
    """The job that passed its time limit first, of those that run."""
    lost: bool = False
    """True when it has not been seen for 90 s."""


class MissingTask(msgspec.Struct, frozen=True):
    """A task that jobs name and no worker knew."""

    service: str
    name: str
    seen_ms: int


_read_worker = msgspec.json.Decoder(dict[str, Any]).decode


def workers(store: Store) -> list[WorkerInfo]:
    """The worker processes, by name. Those lost for ten minutes are forgotten: that bounds the list."""
    key = store.keys.presence
    now = now_ms(store)
    found: list[WorkerInfo] = []
    gone: list[str] = []
    for field, text in pairs(store.connector.command(key, "HGETALL", key)):
        name = field.decode(errors="replace")
        worker = _worker(name, text, now)
        if worker is None or now - worker.seen_ms > FORGOTTEN_AFTER_MS:
            gone.append(name)
        else:
            found.append(worker)
    if gone:
        store.connector.command(key, "HDEL", key, *gone)
    return sorted(found, key=lambda worker: worker.name)


def _worker(name: str, text: bytes, now: int) -> WorkerInfo | None:
    try:
        said = _read_worker(text)
        seen = int(said.get("seen_ms", 0))
        return msgspec.convert(said | {"name": name, "lost": now - seen > LOST_AFTER_MS}, WorkerInfo)
    except (msgspec.DecodeError, msgspec.ValidationError, TypeError, ValueError):
        return None


def unknown_tasks(store: Store) -> list[MissingTask]:
    """Tasks that some worker was given and did not know, of the last 48 hours, the latest first."""
    found: list[MissingTask] = []
    for service in store.services():
        key = store.service(service).unknown
        for name, score in scored(store.connector.command(key, "ZREVRANGE", key, 0, -1, "WITHSCORES")):
            if not name.startswith("\n"):  # lua/parts/unknown.lua
                found.append(MissingTask(service, name, score))
    return sorted(found, key=lambda task: -task.seen_ms)
