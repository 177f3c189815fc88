"""One worker process: what the supervisor starts. ``python -m fourlane.worker.process``, driven over its stdin.

The first line is the specification; later lines tell of lost leases and cancelled jobs. The end of stdin is the
death of the supervisor, and the process ends with it.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import sys
import threading
import time
from typing import IO, Any, Final

import dramatiq
import msgspec

from fourlane import observe
from fourlane.app import Opening
from fourlane.errors import FourlaneError, SettingsError
from fourlane.observe import Observe
from fourlane.queues.broker import RedisBroker

__all__ = ["CANNOT_START", "CONTROLLED", "Spec", "Told", "declare_limits", "declared_queues", "import_modules"]

CANNOT_START: Final = 78  # EX_CONFIG: starting again would change nothing
CONTROLLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # signals that the supervisor takes for all
_PR_SET_PDEATHSIG: Final = 1
_AGAIN_SECONDS: Final = 2.0

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
    table_fd: int
    path: list[str]
    opening: Opening | None = None
    boot_ms: int = 0
    observe: Observe = Observe()
    metrics_folder: str = ""
    profile: bool = False


class Told(msgspec.Struct, frozen=True):
    """A line from the supervisor."""

    lost: list[tuple[str, str]] = []
    """Services, and the names under which leases were held there."""
    cancelled: list[str] = []


def import_modules(modules: list[str]) -> None:
    """Import the modules that declare tasks. Raises ModuleError."""
    import fourlane.tasks.billing
    import fourlane.tasks.endpoints
    import fourlane.tasks.maintenance
    import fourlane.tasks.webhooks
    import fourlane.webhooks.handlers  # noqa: F401
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


def declare_limits() -> None:
    """Write the limits that tasks declare for their queues, and drop those that they no longer do."""
    from fourlane.queues import control
    from fourlane.tasks.task import Task, default_broker

    broker = default_broker()
    store = broker.store
    declared: dict[str, Any] = {}
    by: dict[str, str] = {}
    tasks = [actor for actor in broker.actors.values() if isinstance(actor, Task)]
    for task in tasks:
        queue = task.queue_name
        if task.limit is not None and declared.setdefault(queue, task.limit) != task.limit:
            raise SettingsError(f"tasks {by[queue]} and {task.actor_name} declare different limits for {queue}")
        if task.limit is not None:
            by[queue] = task.actor_name
    control.declare_limits(store, declared, "task", services={task.service for task in tasks})


def main() -> None:
    """Run until told to stop."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the whole group: the supervisor decides
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CONTROLLED)  # the supervisor started us with them blocked
    control = _take_stdin()
    spec = msgspec.json.decode(control.readline(), type=Spec)
    observe.configure_logs(spec.observe)
    observer = observe.begin(spec.observe, name=spec.name, metrics_folder=spec.metrics_folder)
    sys.path[:0] = [p for p in spec.path if p not in sys.path]
    if spec.opening is not None:
        # Unless a module sets its own. So no process needs the settings, nor the memory that reading them takes.
        dramatiq.set_broker(RedisBroker(source=spec.opening.open))
    try:
        import_modules(spec.modules)
        queues = declared_queues(spec.queues, spec.services)
        declare_limits()
    except BaseException as error:  # SystemExit too: a script may end itself when it is imported
        text = str(error) if isinstance(error, FourlaneError) else f"{type(error).__name__}: {error}"
        log.error("cannot start: %s", " ".join(text.split()), exc_info=log.isEnabledFor(logging.DEBUG))
        os._exit(CANNOT_START)

    from fourlane.tasks.task import default_broker
    from fourlane.worker import stacks
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
        observer=observer,
    )
    # A thousand jobs at once are young objects that live; a look at them each 700 allocations took a fifth of the time.
    gc.set_threshold(25_000, 10, 10)
    broker.emit_before("worker_boot", loop)
    # An init system may send SIGTERM to every process, and the supervisor passes its own on: once is meant.
    signal.signal(signal.SIGUSR1, lambda *_: stacks.show(loop.executor))
    profile = _profile(loop) if spec.profile else None
    signal.signal(signal.SIGTERM, lambda *_: None if loop.stopping else loop.stop())
    threading.Thread(target=_synchronise, args=(broker, spec.boot_ms), name="fourlane-schedules", daemon=True).start()
    threading.Thread(target=_listen, args=(loop, control), name="fourlane-listen", daemon=True).start()
    broker.emit_after("worker_boot", loop)
    gc.collect()
    gc.freeze()  # what is here now stays: no later collection need look at it
    loop.run()
    if profile is not None:
        profile.stop()
    broker.emit_before("worker_shutdown", loop)
    broker.emit_after("worker_shutdown", loop)
    logging.shutdown()
    # A thread that did not end within the grace must not keep the process.
    os._exit(0)


def _profile(loop: Any) -> Any:
    """A profile of this process, into the current folder, at its end and at each SIGUSR2."""
    from pathlib import Path

    from fourlane.worker.profile import Profile

    profile = Profile(loop.executor, Path.cwd())
    # In a thread, for the signal may come while this one holds the profile's lock.
    signal.signal(signal.SIGUSR2, lambda *_: threading.Thread(target=profile.write, daemon=True).start())
    profile.start()
    return profile


def _synchronise(broker: Any, boot_ms: int) -> None:
    """Tell Redis what schedules the modules declare; jobs need not wait for that."""
    from fourlane.errors import FourlaneError, RedisUnavailable
    from fourlane.scheduler.declare import synchronise

    while True:
        try:
            return synchronise(broker, boot_ms)
        except RedisUnavailable as error:
            log.warning("schedules are not declared yet: %s", error)
            time.sleep(_AGAIN_SECONDS)
        except FourlaneError as error:
            return log.error("schedules are not declared: %s", error)


def _take_stdin() -> IO[bytes]:
    """The supervisor's pipe. User code, and programs that it starts, find an empty stdin instead."""
    control = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return control


def _listen(loop: Any, control: IO[bytes]) -> None:
    for line in control:
        told = msgspec.json.decode(line, type=Told)
        for service, name in told.lost:
            loop.told_lost(service, name)
        if told.cancelled:
            loop.told_cancelled(set(told.cancelled))
    os._exit(1)


if __name__ == "__main__":
    main()
