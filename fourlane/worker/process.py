"""One worker process: what the supervisor starts. ``python -m fourlane.worker.process``, driven over its stdin.

The first line is the specification; later lines tell of lost leases and cancelled jobs. The end of stdin is the
death of the supervisor, and the process ends with it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from typing import Any, Final

import msgspec

__all__ = ["CANNOT_START", "Spec", "declared_queues", "import_modules"]

CANNOT_START: Final = 78  # EX_CONFIG: starting again would change nothing
_PR_SET_PDEATHSIG: Final = 1

log = logging.getLogger("fourlane.worker")


class Spec(msgspec.Struct, frozen=True):
    """What a process needs to know."""

    name: str
    modules: list[str]
    queues: list[str]
    services: list[str]
    slots: int
    concurrency: int
    grace_seconds: float
    log_jobs: bool
    log_level: str
    table_fd: int
    path: list[str]


class Told(msgspec.Struct, frozen=True):
    """A line from the supervisor."""

    lost: list[str] = []
    cancelled: list[str] = []


def import_modules(modules: list[str]) -> None:
    """Import the modules that declare tasks. Raises ModuleError."""
    import fourlane.tasks.webhooks  # noqa: F401
    from fourlane.tasks.modules import import_module

    for module in modules:
        import_module(module)


def declared_queues(queues: list[str], services: list[str]) -> list[Any]:
    """The queues to serve: those named, else all four tiers of each service that has a task."""
    from fourlane.names import Queue, Tier
    from fourlane.tasks.task import Task, default_broker

    broker = default_broker()
    if queues:
        return [broker.queue_of(name) for name in queues]
    found = set(services)
    if not found:
        for actor in broker.actors.values():
            found.add(actor.service if isinstance(actor, Task) else broker.queue_of(actor.queue_name).service)
    return [Queue(service, tier) for service in sorted(found) for tier in Tier]


def main() -> None:
    """Run until told to stop."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=Spec)
    logging.basicConfig(
        level=spec.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    sys.path[:0] = [p for p in spec.path if p not in sys.path]
    try:
        import_modules(spec.modules)
        queues = declared_queues(spec.queues, spec.services)
    except Exception as error:
        log.error("cannot start: %s: %s", type(error).__name__, error, exc_info=not _is_users_mistake(error, spec))
        os._exit(CANNOT_START)

    from fourlane.tasks.task import default_broker
    from fourlane.worker.loop import Loop
    from fourlane.worker.table import Table

    broker = default_broker()
    for hook in broker.hooks("after_process_boot"):
        hook(broker)
    loop = Loop(
        broker,
        queues,
        name=spec.name,
        slots=spec.slots,
        concurrency=spec.concurrency,
        grace_seconds=spec.grace_seconds,
        log_jobs=spec.log_jobs,
        table=Table(spec.table_fd, spec.slots + spec.concurrency),
    )
    broker.emit_before("worker_boot", loop)
    signal.signal(signal.SIGTERM, lambda *_: loop.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the whole group: the supervisor decides
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_listen, args=(loop,), name="fourlane-listen", daemon=True).start()
    broker.emit_after("worker_boot", loop)
    loop.run()
    broker.emit_before("worker_shutdown", loop)
    broker.emit_after("worker_shutdown", loop)
    logging.shutdown()
    # A thread that did not end within the grace must not keep the process.
    os._exit(0)


def _listen(loop: Any) -> None:
    for line in sys.stdin.buffer:
        told = msgspec.json.decode(line, type=Told)
        for name in told.lost:
            loop.told_lost(name)
        if told.cancelled:
            loop.told_cancelled(set(told.cancelled))
    os._exit(1)


def _is_users_mistake(error: Exception, spec: Spec) -> bool:
    from fourlane.errors import FourlaneError

    missing = isinstance(error, ModuleNotFoundError) and error.name in {m.partition(":")[0] for m in spec.modules}
    return missing or isinstance(error, (FourlaneError, ValueError))


if __name__ == "__main__":
    main()
