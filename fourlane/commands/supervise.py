"""What ``fourlane worker`` becomes once it has read its settings: a process that holds only what supervising takes.

Settings and the command line need more memory than all the rest of a supervisor. So the command writes down what is to
be done, and this program takes its place, with the same process id.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import IO, TYPE_CHECKING, Final, NoReturn

import msgspec

from fourlane.errors import FourlaneError
from fourlane.observe.begin import configure_logs
from fourlane.observe.logs import announce
from fourlane.queues import browse, control, rights
from fourlane.queues.limit import Limit
from fourlane.queues.opening import Opening, opening_here, store
from fourlane.queues.store import Store
from fourlane.redact import redact_text
from fourlane.root import root
from fourlane.worker.process.background import Outside
from fourlane.worker.process.early_signals import hold_signals, take_signals
from fourlane.worker.process.health import STARTING, Start
from fourlane.worker.process.options import Options
from fourlane.worker.process.protocol import CANNOT_START
from fourlane.worker.process.reachable import when_reachable
from fourlane.worker.process.supervisor import Supervisor
from fourlane.worker.unnamed import unnamed_file

if TYPE_CHECKING:
    from fourlane.worker.process.probe import Probe

__all__ = ["Assignment", "become", "main", "supervise"]

log = logging.getLogger("fourlane.worker")

# Only the standard library is loaded before the path is what it was: a folder of the user's may hold any names.
_BEGIN: Final = (
    "import json, sys; given = open(int(sys.argv[1])); sys.path[:] = json.loads(given.readline()); "
    "from fourlane.commands.supervise import main; main(given)"
)


class Assignment(msgspec.Struct, frozen=True):
    """What is to be done, as plain data."""

    opening: Opening
    options: Options
    limits: dict[str, Limit] = {}
    """By queue: what settings declare."""
    served: list[str] = []
    """The services that alone are served; empty: all whose tasks the modules declare."""
    housekeeping: dict[str, str] | None = None
    """When the platform's own schedules run; None: they are not declared here."""
    where: str = ""
    """The server, in words."""
    probe_port: int = 0
    probe_host: str | None = None
    start_wait_seconds: float = 0.0
    relay: bool = False
    warnings: list[str] = []

    @property
    def host_of_probe(self) -> str:
        """Where it listens; "" for all addresses."""
        if self.probe_host is not None:
            return self.probe_host
        return "127.0.0.1" if self.opening.environment == "local" else ""


def become(assignment: Assignment) -> NoReturn:
    """Take the place of this program. Signals that come meanwhile are heard there."""
    given = unnamed_file()
    with open(given, "wb", closefd=False) as file:
        file.write(msgspec.json.encode(sys.path) + b"\n" + msgspec.json.encode(assignment))
    os.lseek(given, 0, os.SEEK_SET)
    os.set_inheritable(given, True)
    hold_signals()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-c", _BEGIN, str(given), "fourlane", *sys.argv[1:]])


def main(given: IO[str]) -> NoReturn:
    """Do what is written there, and end as the command would."""
    with given:
        assignment = msgspec.json.decode(given.read(), type=Assignment)
    try:
        take_signals(assignment.options.profile)
        code = supervise(assignment)
    except FourlaneError as error:
        for line in str(error).splitlines():
            announce(line, logging.ERROR)
        code = 1
    except KeyboardInterrupt:
        announce("Aborted!")
        code = 1
    sys.exit(code)


def supervise(assignment: Assignment) -> int:
    """Run until stopped; returns the exit code. Raises FourlaneError: it cannot start."""
    configure_logs(assignment.options.observe)
    redact_text(" ")  # what its lines need is loaded while files can be opened
    for warning in assignment.warnings:
        log.warning("%s", warning)
    root().give(Opening, assignment.opening)
    start = Start()
    try:
        # Opened before Redis is waited for: who waits is alive.
        probe = _probe(assignment, start) if assignment.probe_port else None
    except OSError as error:
        announce(_why_no_probe(assignment, error), logging.ERROR)
        return CANNOT_START
    try:
        with closing(probe) if probe is not None else nullcontext():
            return _supervise(assignment, root().part(store), start, probe)
    finally:
        root().close()


def _supervise(assignment: Assignment, store: Store, start: Start, probe: Probe | None) -> int:
    announce(f"redis: {assignment.where}")
    boot_ms = _greet(assignment, store, start)
    options = msgspec.structs.replace(assignment.options, boot_ms=boot_ms)

    def outside() -> Outside:
        from fourlane.tasks.upkeep import beyond

        return root().part(beyond.Outside)

    supervisor = Supervisor(
        store,
        options,
        on_ready=lambda: _say_ready(options, assignment.opening.environment, supervisor),
        outside=outside,
        declare=lambda: _declare(assignment, store, boot_ms),
    )
    if options.watch:
        announce(f"watching the .py files in {options.watch}")
    with _relaying(supervisor.end_stuck) if assignment.relay else nullcontext():
        if probe is not None:
            from fourlane.worker.process.pages import pages

            probe.serve(supervisor.health, pages(supervisor))
        return supervisor.run()


def _greet(assignment: Assignment, store: Store, start: Start) -> int:
    """Wait for Redis and declare; returns when this deploy began, by its clock."""

    def greet() -> tuple[int, str | None]:
        rights.check_whole(store)  # and not while it loads its data
        boot_seconds, _ = store.connector.command(store.keys.services, "TIME")
        rights.check(store)
        return int(boot_seconds) * 1000, browse.eviction_policy(store)

    patience = assignment.start_wait_seconds
    boot_ms, policy = when_reachable(greet, patience, start.hear)
    when_reachable(lambda: _declare(assignment, store, boot_ms), patience, start.hear)
    start.hear(STARTING)
    if policy not in (None, "noeviction"):
        announce(
            f"maxmemory-policy of this Redis is {policy}: it may drop jobs when its memory is full; "
            "set it to noeviction",
            logging.WARNING,
        )
    return boot_ms


def _declare(assignment: Assignment, store: Store, boot_ms: int) -> None:
    control.declare_limits(store, assignment.limits, "settings", services=assignment.served or None)
    if assignment.housekeeping is not None:
        from fourlane.tasks.upkeep import maintenance

        maintenance.synchronise(store, assignment.housekeeping, boot_ms)


def _say_ready(options: Options, environment: str, supervisor: Supervisor) -> None:
    services = sorted({s for child in supervisor.children for s in child.table.names()})
    announce(
        f"ready: {options.processes} process(es) × {options.slots} slots ({options.concurrency} async jobs), serving "
        + ", ".join(options.queues or [f"{environment}.jobs.*.{s}" for s in services])
    )


@contextmanager
def _relaying(end_stuck: Callable[[], None]) -> Iterator[None]:
    """A relay in a thread beside; ``end_stuck`` ends the process when it does nothing any more."""
    from fourlane.db import migrate
    from fourlane.outbox.relay import PATIENCE_SECONDS, relay_of
    from fourlane.watchdog import Watchdog, ping_of

    store = opening_here().open().store  # of its own: it waits longer than others
    relay = relay_of(root(), store)
    if root().settings.database_url is None:
        migrate.migrate(relay.database)  # SQLite is ready to use, as the embedded server is
    announce(f"outbox: {relay.database}")
    stop = threading.Event()
    watchdog = Watchdog(PATIENCE_SECONDS, end_stuck)
    watchdog.start(ping_of(store.connector, store.keys.services))
    thread = threading.Thread(target=relay.run, args=[stop, watchdog], name="fourlane-relay", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        store.connector.close()


def _probe(assignment: Assignment, start: Start) -> Probe:
    """Raises OSError."""
    from fourlane.worker.process.pages import pages_of_start
    from fourlane.worker.process.probe import Probe

    return Probe(assignment.probe_port, start.health, pages_of_start(start), host=assignment.host_of_probe)


def _why_no_probe(assignment: Assignment, error: OSError) -> str:
    host, port = assignment.probe_host, assignment.probe_port
    where = f"port {port}" if host is None else f"{host}, port {port}"
    why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"FOURLANE_PROBE_HOST: cannot listen on {where} ({why}); name an address of this machine"
    return f"FOURLANE_PROBE_PORT: cannot listen on {where} ({why}); choose another"
