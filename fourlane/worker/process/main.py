"""One worker process: what the supervisor starts. ``python -m fourlane.worker.process``, driven over its stdin.

The first line is the specification; later lines tell what the supervisor heard (``Told``). The end of stdin is the
death of the supervisor, and the process ends with it.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import os
import signal
import sys
import threading
from typing import IO, Any, Final

import dramatiq
import msgspec

from fourlane import observe
from fourlane.config import folder
from fourlane.errors import FourlaneError
from fourlane.observe import Observe, logs
from fourlane.observe.lines import Lines, LinesOfAll
from fourlane.queues.broker import RedisBroker
from fourlane.queues.opening import Opening
from fourlane.root import root
from fourlane.tasks.modules import import_modules
from fourlane.telling import tell
from fourlane.worker.process import host
from fourlane.worker.process.declarations import Declarations, declare_limits
from fourlane.worker.process.start import when_reachable
from fourlane.worker.process.takeover import take_over

__all__ = ["CANNOT_START", "CONTROLLED", "Spec", "Told", "declare_limits", "declared_queues"]

CANNOT_START: Final = 78  # EX_CONFIG: starting again would change nothing
LOOP_FAILED: Final = 70  # EX_SOFTWARE
CONTROLLED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # signals that the supervisor takes for all
_PR_SET_PDEATHSIG: Final = 1
_LEAVE_SECONDS: Final = 2.0  # for the end of a program that has no time left

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
    declare: int = 0
    """The last order to declare: this process carries it out when it begins."""
    observe: Observe = Observe()
    metrics_folder: str = ""
    profile: bool = False
    is_first: bool = True
    """Of its worker's processes: it starts what middleware wants to run beside."""


class Told(msgspec.Struct, frozen=True):
    """A line from the supervisor."""

    lost: list[tuple[str, str]] = []
    """Services, and the names under which leases were held there."""
    cancelled: list[str] = []
    declare: int = 0
    """An order to declare schedules and limits again; each has a higher number."""


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
    host.take_signals()
    host.write_by_line()
    folder.keep()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CONTROLLED)  # the supervisor started us with them blocked
    control = _take_stdin()
    spec = msgspec.json.decode(control.readline(), type=Spec)
    from fourlane.tasks.task import default_broker, keep_beside

    observe.configure_logs(spec.observe)
    tell.add(LinesOfAll() if spec.log_jobs else Lines())
    observe.begin(spec.observe, name=spec.name, metrics_folder=spec.metrics_folder)
    sys.path[:0] = [p for p in spec.path if p not in sys.path]
    if spec.opening is not None:
        # Unless a module sets its own. So no process needs the settings, nor the memory that reading them takes.
        root().give(Opening, spec.opening)
        first = RedisBroker(source=spec.opening.open)
        dramatiq.set_broker(first)
        keep_beside(first)
    try:
        import_modules(spec.modules)
        if spec.opening is not None:
            when_reachable(lambda: take_over(first), math.inf)
        broker = default_broker()
        broker.call_hooks(broker.hooks("after_process_boot"), (), {})
        queues = declared_queues(spec.queues, spec.services)
        when_reachable(declare_limits, math.inf)  # as it waits for it later
    except BaseException as error:  # SystemExit too: a script may end itself when it is imported
        logs.hear_ours_again()
        text = str(error) if isinstance(error, FourlaneError) else f"{type(error).__name__}: {error}"
        log.error("cannot start: %s", " ".join(text.split()), exc_info=log.isEnabledFor(logging.DEBUG))
        host.leave(CANNOT_START, _LEAVE_SECONDS)

    logs.hear_ours_again()
    from fourlane.worker.loop.loop import Loop
    from fourlane.worker.process.deputy import Deputy
    from fourlane.worker.process.forks import Forks, forks_of
    from fourlane.worker.process.vitals import Reporter
    from fourlane.worker.table import Table

    table = Table(spec.table_fd, spec.slots + spec.concurrency)
    loop = Loop(
        broker,
        queues,
        name=spec.name,
        slots=spec.slots,
        concurrency=spec.concurrency,
        grace_seconds=spec.grace_seconds,
        table=table,
    )
    # A thousand jobs at once are young objects that live; a look at them each 700 allocations took a fifth of the time.
    gc.set_threshold(25_000, 10, 10)
    if not spec.queues and not spec.services:
        broker.on_declared = loop.told_declared
    loop.tell_boot()
    forks = Forks(forks_of(broker) if spec.is_first else [])
    # An init system may send SIGTERM to every process, and the supervisor passes its own on: once is meant.
    profile = _profile(loop) if spec.profile else None
    signal.signal(signal.SIGTERM, lambda *_: None if loop.stopping else loop.stop())
    declarations = Declarations(broker, spec.boot_ms, spec.declare, lambda: loop.turned_at > 0, loop.told_unknown)
    Reporter(loop, table, declarations)
    Deputy(loop, broker.store, table).start()
    threading.Thread(target=_listen, args=(loop, control, declarations), name="fourlane-listen", daemon=True).start()
    broker.emit_after("worker_boot", loop)
    gc.collect()
    gc.freeze()  # what is here now stays: no later collection need look at it
    try:
        loop.run()
    except BaseException:
        # Python would wait for threads of the user's, and nobody would work here meanwhile.
        log.critical("the worker's loop met an error of its own", exc_info=True)
        host.leave(LOOP_FAILED, _LEAVE_SECONDS)
    if profile is not None:
        profile.stop()
    broker.emit_after("worker_shutdown", loop)
    forks.stop()
    # A thread that did not end within the grace must not keep the process.
    host.wait_for_threads(loop.grace_left())
    host.leave(0, max(_LEAVE_SECONDS, loop.grace_left()))


def _profile(loop: Any) -> Any:
    """A profile of this process, into the current folder, at its end and at each SIGUSR2."""
    from pathlib import Path

    from fourlane.worker.process.profile import Profile

    profile = Profile(loop.executor, Path.cwd())
    # In a thread, for the signal may come while this one holds the profile's lock.
    signal.signal(signal.SIGUSR2, lambda *_: threading.Thread(target=profile.write, daemon=True).start())
    profile.start()
    return profile


def _take_stdin() -> IO[bytes]:
    """The supervisor's pipe. User code, and programs that it starts, find an empty stdin instead."""
    control = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return control


def _listen(loop: Any, control: IO[bytes], declarations: Declarations) -> None:
    for line in control:
        told = msgspec.json.decode(line, type=Told)
        for service, name in told.lost:
            loop.told_lost(service, name)
        if told.cancelled:
            loop.told_cancelled(set(told.cancelled))
        if told.declare:
            declarations.order(told.declare)
    os._exit(1)


if __name__ == "__main__":
    main()
