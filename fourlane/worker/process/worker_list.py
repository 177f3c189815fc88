"""Keeps a worker's processes on the list of workers in Redis, for ``fourlane workers`` and ``fourlane status``."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Sequence
from typing import Any, Final

from fourlane.errors import RedisUnavailable
from fourlane.queues.store import Store
from fourlane.version import __version__
from fourlane.worker.process.child import Child
from fourlane.worker.process.links import Links
from fourlane.worker.process.options import Options
from fourlane.worker.table import Vitals

__all__ = ["OVERRUN_SECONDS", "WorkerList"]

log = logging.getLogger("fourlane.supervisor")

OVERRUN_SECONDS: Final = 10.0
"""A job that was interrupted at its time limit may need a moment to end."""
_EVERY_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 1.0


class WorkerList:
    """What this worker's processes say of themselves."""

    def __init__(self, store: Store, links: Links, options: Options) -> None:
        self._store = store
        self._links = links
        self._options = options
        self._key = store.keys.presence
        self._started_ms = int(time.time() * 1000)
        self._next_at = 0.0
        self._gone: list[str] = []

    def hurry(self) -> None:
        """Something has changed that others need to know; from any thread."""
        self._next_at = 0.0

    def left(self, name: str) -> None:
        """A process has ended."""
        self._gone.append(name)

    def look(self, children: Sequence[Child], now: float) -> None:
        """Write it when it is time, or a process serves that has said nothing."""
        if now >= self._next_at or any(child.serves and not child.presented for child in children):
            self._next_at = now + _EVERY_SECONDS
            self._present(children, now)

    def _present(self, children: Sequence[Child], now: float) -> None:
        for child in children:
            child.presented = child.serves
            try:
                for service in child.table.names():
                    self._store.announce(service)
                self._links.of(self._key).command("HSET", self._key, child.name, json.dumps(self._description(child)))
                if self._gone:
                    self._links.of(self._key).command("HDEL", self._key, *self._gone)
                    self._gone.clear()
            except RedisUnavailable as error:
                log.warning("%s", error)
                self._links.drop()
                self._next_at = now + _AGAIN_SECONDS  # it may have lost what it knew of us
                return

    def _description(self, child: Child) -> dict[str, Any]:
        names = child.table.names()
        return {
            "host": socket.gethostname(),
            "pid": child.process.pid,
            "started_ms": self._started_ms,
            "seen_ms": int(time.time() * 1000),
            "queues": self._options.queues or [f"jobs.*.{service}" for service in names],
            "slots": self._options.slots,
            "concurrency": self._options.concurrency,
            "processes": self._options.processes,
            "names": names,
            "held": child.table.held,
            "overrun": _overrun(child.table.vitals()),
            "version": __version__,
        }

    def end(self) -> None:
        """Take all of it away."""
        try:
            present = self._links.of(self._key).command("HKEYS", self._key)
            mine = [n for n in present if n.decode().startswith(f"{socket.gethostname()}-{os.getpid()}-")]
            if mine:
                self._links.of(self._key).command("HDEL", self._key, *mine)
        except RedisUnavailable:
            pass  # readers drop it by its age


def _overrun(vitals: Vitals) -> dict[str, Any] | None:
    """The running job that passed its own time limit first, when that is some time ago."""
    over_ms = int((time.monotonic() - vitals.limit_at) * 1000)
    if not vitals.limit_at or over_ms < OVERRUN_SECONDS * 1000:
        return None
    return {"job": vitals.job, "task": vitals.task, "over_ms": over_ms}
