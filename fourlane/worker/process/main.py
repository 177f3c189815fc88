"""One worker process: what the supervisor starts. ``python -m fourlane.worker.process.main``, driven over its stdin.

It loads the program's modules, serves their queues until it is told to stop, and leaves as a Python program does.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any, Final

import dramatiq

from fourlane import observe
from fourlane.config import folder
from fourlane.errors import FourlaneError
from fourlane.observe import logs
from fourlane.observe.lines import Lines, LinesOfAll
from fourlane.queues.broker import RedisBroker
from fourlane.queues.opening import Opening
from fourlane.root import root
from fourlane.sealing import check_keys
from fourlane.tasks.modules import import_modules
from fourlane.tasks.task import default_broker, keep_beside
from fourlane.telling import tell
from fourlane.worker.process import host, orders
from fourlane.worker.process.declarations import Declarations, declare_limits, declared_queues, declared_tasks
from fourlane.worker.process.protocol import CANNOT_START, CONTROLLED, LOOP_FAILED, Spec
from fourlane.worker.process.reachable import when_reachable
from fourlane.worker.process.takeover import take_over
from fourlane.worker.table import Table

__all__ = ["main"]

_PR_SET_PDEATHSIG: Final = 1
_LEAVE_SECONDS: Final = 2.0  # for the end of a program that has no time left

log = logging.getLogger("fourlane.worker")


def main() -> None:
    """Run until told to stop."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    host.take_signals()
    host.write_by_line()
    folder.keep()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CONTROLLED)  # the supervisor started us with them blocked
    pipe = orders.take_stdin()
    spec = orders.read_spec(pipe)
    observe.configure_logs(spec.observe)
    tell.add(LinesOfAll() if spec.log_jobs else Lines())
    observe.begin(spec.observe, name=spec.name, metrics_folder=spec.metrics_folder)
    sys.path[:0] = [p for p in spec.path if p not in sys.path]
    try:
        broker, queues = _load(spec)
    except BaseException as error:  # SystemExit too: a script may end itself when it is imported
        logs.hear_ours_again()
        text = str(error) if isinstance(error, FourlaneError) else f"{type(error).__name__}: {error}"
        log.error("cannot start: %s", " ".join(text.split()), exc_info=log.isEnabledFor(logging.DEBUG))
        host.leave(CANNOT_START, _LEAVE_SECONDS)
    logs.hear_ours_again()
    table = Table(spec.table_fd, spec.slots + spec.concurrency)
    _serve(spec, broker, _loop(spec, broker, queues, table), table, pipe)


def _load(spec: Spec) -> tuple[RedisBroker, list[Any]]:
    """The program's modules, and what they declare: its broker, and the queues to serve."""
    if spec.opening is None:
        import_modules(spec.modules)
    else:
        # Unless a module sets its own. So no process needs the settings, nor the memory that reading them takes.
        root().give(Opening, spec.opening)
        first = RedisBroker(source=spec.opening.open)
        dramatiq.set_broker(first)
        keep_beside(first)
        import_modules(spec.modules)
        when_reachable(lambda: take_over(first), math.inf)
    broker = default_broker()
    check_keys(broker.actors.values())
    broker.call_hooks(broker.hooks("after_process_boot"), (), {})
    queues = declared_queues(broker, spec.queues, spec.services)
    when_reachable(declare_limits, math.inf)  # as it waits for it later
    return broker, queues


def _loop(spec: Spec, broker: RedisBroker, queues: list[Any], table: Table) -> Any:
    from fourlane.worker.loop.loop import Loop

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
    tell.declared(sorted({queue.service for queue in queues}), declared_tasks(broker))
    loop.tell_boot()
    return loop


def _serve(spec: Spec, broker: RedisBroker, loop: Any, table: Table, pipe: IO[bytes]) -> None:
    """Run the loop, with all that is beside it, to its end."""
    from fourlane.worker.process.forks import Forks, forks_of
    from fourlane.worker.process.spare_beats import SpareBeats
    from fourlane.worker.process.vitals import Reporter

    forks = Forks(forks_of(broker) if spec.is_first else [])
    profile = _profile(loop) if spec.profile else None
    # An init system may send SIGTERM to every process, and the supervisor passes its own on: once is meant.
    signal.signal(signal.SIGTERM, lambda *_: None if loop.stopping else loop.stop())
    declarations = Declarations(broker, spec.boot_ms, spec.declare, lambda: loop.turned_at > 0, loop.told_unknown)
    Reporter(loop, table, declarations)
    SpareBeats(loop, broker.store, table).start()
    hears = (pipe, loop, declarations.order)
    threading.Thread(target=orders.listen, args=hears, name="fourlane-listen", daemon=True).start()
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
    from fourlane.worker.process.profile import Profile

    profile = Profile(loop.executor, Path.cwd())
    # In a thread, for the signal may come while this one holds the profile's lock.
    signal.signal(signal.SIGUSR2, lambda *_: threading.Thread(target=profile.write, daemon=True).start())
    profile.start()
    return profile


if __name__ == "__main__":
    main()
